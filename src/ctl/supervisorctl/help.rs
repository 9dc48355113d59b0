//! `help`, and `-h`. The list of verbs is supervisorctl's to the letter; the texts are our own.

use super::{Halt, Session};

/// What can be said, for completion.
pub const VERBS: [&str; 22] = [
    "add", "avail", "clear", "exit", "fg", "help", "maintail", "open", "pid", "quit", "reload", "remove", "reread", "restart", "shutdown",
    "signal", "start", "status", "stop", "tail", "update", "version",
];

const LIST: &str = "
default commands (type help <topic>):
=====================================
add    exit      open  reload  restart   start   tail   
avail  fg        pid   remove  shutdown  status  update 
clear  maintail  quit  reread  signal    stop    version
";

/// What `-h` prints.
pub fn usage(program: &str) -> String {
    format!(
        "Usage: {program} [options] [action [arguments]]

Asks a Supervisor (gangerd or supervisord) to show and steer its programs.

-c/--configuration FILE -- read [supervisorctl] of this file (else it is searched for)
-h/--help -- print this text and exit
-i/--interactive -- ask before shutdown and reload, and for a password that is wanted
-s/--serverurl URL -- where the server listens: http://HOST:PORT or unix:///PATH
     (default \"http://localhost:9001\")
-u/--username NAME -- name to log in with
-p/--password PASSWORD -- password to log in with
-r/--history_file FILE -- keep the lines typed at the prompt in this file

Without an action there is a prompt. The action \"help\" lists the actions.
"
    )
}

fn text(verb: &str) -> Option<&'static str> {
    let text = match verb {
        "add" => "add <name> [...]\tTake groups into service that the last reread has found",
        "avail" => "avail\t\t\tList all configured processes",
        "clear" => "clear <name> [...]\tEmpty the logs of processes\nclear all\t\tEmpty all logs",
        "exit" => "exit\tLeave the prompt",
        "fg" => "fg <process>\tSee a process's output and type its input\n\t\tCtrl-C leaves it",
        "help" => "help\t\tPrint a list of available actions\nhelp <action>\tPrint help for <action>",
        "maintail" => {
            "maintail\tLast 1600 bytes of the server's own log\nmaintail -100\tLast 100 bytes\nmaintail -f\tFollow it (Ctrl-C leaves it)"
        }
        "open" => "open <url>\tTurn to another server: http://host:port or unix:///path",
        "pid" => "pid\t\t\tProcess id of the server\npid <name> [...]\tProcess ids of processes\npid all\t\t\tThose of all, one a line",
        "quit" => "quit\tLeave the prompt",
        "reload" => "reload \t\tRestart the server, with all its processes",
        "remove" => "remove <name> [...]\tTake stopped groups out of service",
        "reread" => "reread \t\t\tRead the configuration and say what is new; nothing is started or stopped",
        "restart" => {
            "restart <name> [...]\tStop processes, then start them\nrestart <gname>:*\tAll of a group\nrestart all\t\tAll\n\
             The configuration is not read again: see reread and update."
        }
        "shutdown" => "shutdown \tStop all processes and end the server",
        "signal" => {
            "signal <signal name> <name> [...]\tSend a signal to processes\nsignal <signal name> <gname>:*\tTo all of a group\n\
                     signal <signal name> all\t\tTo all"
        }
        "start" => "start <name> [...]\tStart processes\nstart <gname>:*\t\tStart all of a group\nstart all\t\tStart all",
        "status" => "status\t\t\tShow all processes\nstatus <name> [...]\tShow processes\nstatus <gname>:*\tShow all of a group",
        "stop" => "stop <name> [...]\tStop processes\nstop <gname>:*\t\tStop all of a group\nstop all\t\tStop all",
        "tail" => {
            "tail [-f] <name> [stdout|stderr] (default stdout)\ntail <name>\t\tLast 1600 bytes of a process's log\n\
             tail -100 <name>\tLast 100 bytes\ntail -f <name>\t\tFollow it (Ctrl-C leaves it)"
        }
        "update" => {
            "update [all]\t\tRead the configuration, and start, restart and stop what has changed\nupdate <gname> [...]\tOnly these groups"
        }
        "version" => "version\t\t\tShow the version of the server",
        _ => return None,
    };
    Some(text)
}

impl Session<'_> {
    pub(super) fn help(&mut self, arg: &str) -> Result<(), Halt> {
        match (arg, text(arg)) {
            ("", _) => self.say(LIST),
            (_, Some(text)) => self.say(text),
            (_, None) => self.say(&format!("*** No help on {arg}")),
        }
    }

    /// How a verb is used.
    pub(super) fn explain(&mut self, verb: &str) -> Result<(), Halt> {
        self.say(text(verb).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_verb_has_its_help() {
        assert!(super::VERBS.iter().all(|verb| super::text(verb).is_some()));
    }
}
