//! What only shows when all programs are seen together: names, log files and locks that meet.

use crate::config::error::{Fault, Report};
use crate::config::native::program::{Defined, Spot};
use crate::model::spec::{LockSpec, ProgramSpec, Sink};
use std::collections::BTreeMap;

/// Checks `programs` against one another.
pub fn check(programs: &[Defined], report: &mut Report) {
    labels(programs, report);
    log_files(programs, report);
    locks(programs, report);
}

/// The numbers of a program's slots, as far as the definition has them.
fn numbers(spec: &ProgramSpec) -> impl Iterator<Item = u32> {
    let most = spec.policy.numprocs.max(spec.policy.scale.max.unwrap_or(0));
    let start = spec.policy.numprocs_start;
    start..start.saturating_add(most)
}

/// No two slots may have one name within a group.
fn labels(programs: &[Defined], report: &mut Report) {
    let mut groups: BTreeMap<&str, Vec<&Defined>> = BTreeMap::new();
    for program in programs {
        groups.entry(program.spec.group.as_str()).or_default().push(program);
    }
    // Alone in its group, a program cannot meet another; and its own slots differ by their number.
    for members in groups.into_values().filter(|members| members.len() > 1) {
        let mut taken: BTreeMap<String, &Defined> = BTreeMap::new();
        for program in members {
            let clash = numbers(&program.spec).find_map(|number| {
                let process = program.spec.process(number);
                match taken.get(&process) {
                    Some(other) if other.spec.name != program.spec.name => Some((number, *other)),
                    _ => {
                        taken.insert(process, program);
                        None
                    }
                }
            });
            if let Some((number, other)) = clash {
                let label = format!("{}:{}", program.spec.group, program.spec.process(number));
                let why = format!("the name {label} is taken by program \"{}\" ({})", other.spec.name, other.head.place);
                let mend = Some(String::from("give one of them another process_name"));
                report.error(&program.head.place, &program.head.key, Fault::Conflict { why }, mend);
            }
        }
    }
}

/// Two writers of one file rotate it away under each other.
fn log_files(programs: &[Defined], report: &mut Report) {
    let mut taken: BTreeMap<String, (&Defined, &str)> = BTreeMap::new();
    for program in programs {
        let spec = &program.spec;
        for (stream, rules, spot) in [("stdout", &spec.output.stdout, &program.stdout), ("stderr", &spec.output.stderr, &program.stderr)] {
            for Sink::File(file) in &rules.sinks {
                let clash = numbers(spec).find_map(|number| {
                    let path = file.path.render(number);
                    if path.starts_with("/dev/") {
                        return None;
                    }
                    match taken.get(&path) {
                        Some((other, other_stream)) if other.spec.name != spec.name || *other_stream != stream => {
                            Some((path, *other, *other_stream))
                        }
                        _ => {
                            taken.insert(path, (program, stream));
                            None
                        }
                    }
                });
                if let Some((path, other, other_stream)) = clash {
                    let text = if other.spec.name == spec.name {
                        format!(
                            "{path} is also this program's {other_stream}_logfile; redirect_stderr = true writes both into one file in order"
                        )
                    } else {
                        format!(
                            "{path} is also written by program \"{}\" ({}): they rotate it away from each other",
                            other.spec.name, other.head.place
                        )
                    };
                    report.warn(&spot.place, &spot.key, &text);
                }
            }
        }
    }
}

/// Locks that several programs share, which may be meant, and ports that anybody's connection may take.
fn locks(programs: &[Defined], report: &mut Report) {
    let mut taken: Vec<(&LockSpec, Option<u32>, &Defined)> = Vec::new();
    for program in programs {
        let Some(lock) = &program.spec.launch.lock else { continue };
        let Spot { key, place } = &program.lock;
        let uid = program.spec.launch.user.as_ref().map(|user| user.uid);
        // The address of a port lock is made of the uid, so different users do not meet there.
        let address = if matches!(lock, LockSpec::Port(_)) { uid } else { None };
        match taken.iter().find(|(other, other_address, _)| *other == lock && *other_address == address) {
            Some((_, _, other)) => {
                let text = format!(
                    "program \"{}\" ({}) wants the same lock: only one of the two runs at a time",
                    other.spec.name, other.head.place
                );
                report.warn(place, key, &text);
            }
            None => taken.push((lock, address, program)),
        }
        if let (LockSpec::Port(port @ 32768..=60999), Some(0)) = (lock, uid) {
            let text =
                format!("any outgoing connection may hold port {port} on root's address, and the program then waits; a bare name is safer");
            report.warn(place, key, &text);
        }
    }
}
