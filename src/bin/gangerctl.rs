//! The tool's door; everything is in `ctl`.

fn main() -> std::process::ExitCode {
    let code = ganger::ctl::main(std::env::args_os().collect());
    std::process::ExitCode::from(u8::try_from(code).unwrap_or(1))
}
