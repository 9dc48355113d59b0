//! The daemon. Called as `gangerctl` or `solo` (a symlink) it is the tool.

fn main() {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let name = args.first().map(|arg| std::path::Path::new(arg).file_name().unwrap_or_default().to_owned()).unwrap_or_default();
    let code = if name == "gangerctl" || name == "solo" { ganger::ctl::main(args) } else { ganger::daemon::run(args) };
    #[expect(clippy::disallowed_methods, reason = "the end of the process")]
    std::process::exit(code)
}
