//! The daemon. Called as `gangerctl`, `supervisorctl` or `solo` (a symlink) it is the tool; as `supervisord` it behaves as that one.

fn main() {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let name = args.first().map(|arg| std::path::Path::new(arg).file_name().unwrap_or_default().to_owned()).unwrap_or_default();
    let is_tool = ["gangerctl", "supervisorctl", "solo"].iter().any(|tool| name == *tool);
    let code = if is_tool { ganger::ctl::main(args) } else { ganger::daemon::run(args) };
    #[expect(clippy::disallowed_methods, reason = "the end of the process")]
    std::process::exit(code)
}
