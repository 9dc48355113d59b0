//! The table of methods: what each takes and gives, and who may call it. `system.listMethods`, `methodHelp` and
//! `methodSignature` are read from it, and so is the check of how many parameters came.

use crate::api::access::Role;
use std::fmt::Write;

/// One method.
#[derive(Debug)]
pub struct Method {
    pub name: &'static str,
    pub role: Role,
    /// Type and name of each.
    params: &'static [(&'static str, &'static str)],
    /// How many of the last ones may be left out.
    optional: usize,
    returns: &'static str,
    help: &'static str,
}

impl Method {
    pub fn takes(&self, count: usize) -> bool {
        (self.params.len() - self.optional..=self.params.len()).contains(&count)
    }

    /// `[what it returns, what it takes …]`.
    pub fn signature(&self) -> Vec<&'static str> {
        std::iter::once(self.returns).chain(self.params.iter().map(|(kind, _)| *kind)).collect()
    }

    /// In the form of Supervisor's doc strings, which clients take apart.
    pub fn help(&self) -> String {
        let mut text = format!(" {}\n\n", self.help);
        for (kind, name) in self.params {
            writeln!(text, "        @param {kind} {name}").expect("a String takes all");
        }
        writeln!(text, "        @return {} result", self.returns).expect("a String takes all");
        text
    }
}

/// The method of that name.
pub fn find(name: &str) -> Option<&'static Method> {
    METHODS.binary_search_by(|method| method.name.cmp(name)).ok().map(|at| &METHODS[at])
}

const NAME: &[(&str, &str)] = &[("string", "name")];
const NAME_WAIT: &[(&str, &str)] = &[("string", "name"), ("boolean", "wait")];
const WAIT: &[(&str, &str)] = &[("boolean", "wait")];
const SLICE: &[(&str, &str)] = &[("int", "offset"), ("int", "length")];
const NAME_SLICE: &[(&str, &str)] = &[("string", "name"), ("int", "offset"), ("int", "length")];

const fn method(
    name: &'static str,
    role: Role,
    params: &'static [(&'static str, &'static str)],
    optional: usize,
    returns: &'static str,
    help: &'static str,
) -> Method {
    Method { name, role, params, optional, returns, help }
}

/// In order of their names.
#[rustfmt::skip]
pub const METHODS: &[Method] = &[
    method("supervisor.addProcessGroup", Role::Operate, NAME, 0, "boolean", "Take up a group from the definitions that were read last."),
    method("supervisor.clearAllProcessLogs", Role::Operate, &[], 0, "array", "Empty the logs of every process."),
    method("supervisor.clearLog", Role::Operate, &[], 0, "boolean", "Empty the main log."),
    method("supervisor.clearProcessLog", Role::Operate, NAME, 0, "boolean", "Empty both logs of a process."),
    method("supervisor.clearProcessLogs", Role::Operate, NAME, 0, "boolean", "Empty both logs of a process."),
    method("supervisor.getAPIVersion", Role::View, &[], 0, "string", "The version of this interface."),
    method("supervisor.getAllConfigInfo", Role::View, &[], 0, "array", "What the definitions say of every process."),
    method("supervisor.getAllProcessInfo", Role::View, &[], 0, "array", "How every process is, sorted by group and name."),
    method("supervisor.getIdentification", Role::View, &[], 0, "string", "The identifier that the definitions give the daemon."),
    method("supervisor.getPID", Role::View, &[], 0, "int", "The daemon's process id."),
    method("supervisor.getProcessInfo", Role::View, NAME, 0, "struct", "How one process is."),
    method("supervisor.getState", Role::View, &[], 0, "struct", "How the daemon itself is: statecode and statename."),
    method("supervisor.getSupervisorVersion", Role::View, &[], 0, "string", "The version of Supervisor that this daemon stands in for."),
    method("supervisor.getVersion", Role::View, &[], 0, "string", "The version of this interface."),
    method("supervisor.readLog", Role::View, SLICE, 0, "string", "A slice of the main log, in bytes."),
    method("supervisor.readMainLog", Role::View, SLICE, 0, "string", "A slice of the main log, in bytes."),
    method("supervisor.readProcessLog", Role::View, NAME_SLICE, 0, "string", "A slice of a process's stdout log, in bytes."),
    method("supervisor.readProcessStderrLog", Role::View, NAME_SLICE, 0, "string", "A slice of a process's stderr log, in bytes."),
    method("supervisor.readProcessStdoutLog", Role::View, NAME_SLICE, 0, "string", "A slice of a process's stdout log, in bytes."),
    method("supervisor.reloadConfig", Role::Operate, &[], 0, "array", "Read the definitions and touch nothing; [[added, changed, removed]] groups."),
    method("supervisor.removeProcessGroup", Role::Operate, NAME, 0, "boolean", "Forget a group of which nothing runs."),
    method("supervisor.restart", Role::Operate, &[], 0, "boolean", "Stop everything, read the definitions again, and start."),
    method("supervisor.sendProcessStdin", Role::Operate, &[("string", "name"), ("string", "chars")], 0, "boolean", "Write to a process's standard input."),
    method("supervisor.sendRemoteCommEvent", Role::Operate, &[("string", "type"), ("string", "data")], 0, "boolean", "Send an event to the listeners of REMOTE_COMMUNICATION."),
    method("supervisor.shutdown", Role::Operate, &[], 0, "boolean", "Stop everything and end the daemon."),
    method("supervisor.signalAllProcesses", Role::Operate, &[("string", "signal")], 0, "array", "Send a signal to every process."),
    method("supervisor.signalProcess", Role::Operate, &[("string", "name"), ("string", "signal")], 0, "boolean", "Send a signal, by name or number, to a process."),
    method("supervisor.signalProcessGroup", Role::Operate, &[("string", "name"), ("string", "signal")], 0, "array", "Send a signal to every process of a group."),
    method("supervisor.startAllProcesses", Role::Operate, WAIT, 1, "array", "Start every process that does not run."),
    method("supervisor.startProcess", Role::Operate, NAME_WAIT, 1, "boolean", "Start a process (or, as group:*, a group)."),
    method("supervisor.startProcessGroup", Role::Operate, NAME_WAIT, 1, "array", "Start every process of a group that does not run."),
    method("supervisor.stopAllProcesses", Role::Operate, WAIT, 1, "array", "Stop every process that runs."),
    method("supervisor.stopProcess", Role::Operate, NAME_WAIT, 1, "boolean", "Stop a process (or, as group:*, a group)."),
    method("supervisor.stopProcessGroup", Role::Operate, NAME_WAIT, 1, "array", "Stop every process of a group that runs."),
    method("supervisor.tailProcessLog", Role::View, NAME_SLICE, 0, "array", "The end of a process's stdout log: [text, size, overflow]."),
    method("supervisor.tailProcessStderrLog", Role::View, NAME_SLICE, 0, "array", "The end of a process's stderr log: [text, size, overflow]."),
    method("supervisor.tailProcessStdoutLog", Role::View, NAME_SLICE, 0, "array", "The end of a process's stdout log: [text, size, overflow]."),
    method("system.listMethods", Role::View, &[], 0, "array", "The names of all methods."),
    method("system.methodHelp", Role::View, NAME, 0, "string", "What a method does."),
    method("system.methodSignature", Role::View, NAME, 0, "array", "[rtype, ptype, ptype...]: what a method returns and takes."),
    method("system.multicall", Role::View, &[("array", "calls")], 0, "array", "Several calls, {methodName, params} each, one after the other."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order_and_all_are_found() {
        assert!(METHODS.is_sorted_by(|a, b| a.name < b.name));
        assert_eq!(METHODS.iter().filter(|method| method.name.starts_with("supervisor.")).count(), 37);
        assert_eq!(METHODS.iter().filter(|method| method.name.starts_with("system.")).count(), 4);
        assert!(METHODS.iter().all(|method| find(method.name).is_some_and(|found| found.name == method.name)));
    }

    #[test]
    fn counts_of_parameters_and_signatures() {
        let start = find("supervisor.startProcess").expect("there");
        assert_eq!([0, 1, 2, 3].map(|count| start.takes(count)), [false, true, true, false]);
        assert_eq!(start.signature(), ["boolean", "string", "boolean"]);
        assert!(start.help().contains("\n        @param string name\n        @param boolean wait\n        @return boolean result\n"));
    }
}
