//! `gangerd`'s own flags, and where its definition file is when nobody says.

use clap::Parser;
use std::path::{Path, PathBuf};

/// The foreman of a gang of queue workers.
#[derive(Debug, Parser)]
#[command(name = "gangerd", version, about, max_term_width = 100)]
pub struct Options {
    /// The definition file (default: /etc/ganger/ganger.toml; for an ordinary user ~/.config/ganger/ganger.toml)
    #[arg(short = 'c', long = "configuration", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Say all that is wrong with the definitions, start nothing; exit 0 or 2
    #[arg(long)]
    pub check: bool,

    /// Run a fleet of small shell workers in a temporary directory, to look at; leaves nothing behind
    #[arg(long, conflicts_with_all = ["check", "config"])]
    pub demo: bool,

    /// How much our own log says: error, warn, info, debug, trace (default: what the definitions say, else info)
    #[arg(short = 'e', long = "loglevel", value_name = "LEVEL", value_parser = ["error", "warn", "info", "debug", "trace"])]
    pub log_level: Option<String>,

    /// Stay in the foreground (it always does; accepted for those who are used to it)
    #[arg(short = 'n', long = "nodaemon")]
    pub nodaemon: bool,
}

/// The definition file that is read when none is named.
pub fn default_config(uid: u32, home: &str) -> PathBuf {
    if uid == 0 { PathBuf::from("/etc/ganger/ganger.toml") } else { Path::new(home).join(".config/ganger/ganger.toml") }
}
