//! Targets looked up in a `View`: which slots a person means, and what he might have meant.
//!
//! For reading only (status, logs). What a command's targets mean is the engine's to say, by the same rules.

use crate::model::name::Target;
use crate::model::view::{ProgramView, SlotView, View};
use std::sync::Arc;

/// The programs that `targets` mean, each with only the slots that were meant, in the order of the view; and
/// the targets that mean nothing, as they were typed. No target at all means everything.
pub fn select(view: &View, targets: &[Target]) -> (Vec<Arc<ProgramView>>, Vec<String>) {
    if targets.is_empty() {
        return (view.programs.clone(), Vec::new());
    }
    let mut unknown = Vec::new();
    let mut picked: Vec<Vec<bool>> = view.programs.iter().map(|program| vec![false; program.slots.len()]).collect();
    // A program without slots (scaled to none) is shown too, if it was meant.
    let mut meant = vec![false; view.programs.len()];
    for target in targets {
        if !mark(view, target, &mut picked, &mut meant) {
            unknown.push(target.to_string());
        }
    }
    let programs = view.programs.iter().zip(picked).zip(meant).filter(|(_, meant)| *meant).map(|((program, picked), _)| {
        if picked.iter().all(|picked| *picked) {
            return Arc::clone(program);
        }
        let slots = program.slots.iter().zip(picked).filter(|(_, picked)| *picked).map(|(slot, _)| Arc::clone(slot)).collect();
        Arc::new(ProgramView { slots, ..ProgramView::clone(program) })
    });
    (programs.collect(), unknown)
}

/// Marks what `target` means; false if it means nothing.
fn mark(view: &View, target: &Target, picked: &mut [Vec<bool>], meant: &mut [bool]) -> bool {
    match target {
        // An empty fleet is no unknown name.
        Target::All => mark_programs(view, |_| true, picked, meant) || view.programs.is_empty(),
        Target::Group(group) => mark_programs(view, |program| program.group.as_str() == group, picked, meant),
        Target::Process { group, process } => mark_process(view, group, process, picked, meant),
        Target::Bare(name) => {
            let of_that_name = |program: &ProgramView| program.name.as_str() == name || program.group.as_str() == name;
            mark_process(view, name, name, picked, meant) || mark_programs(view, of_that_name, picked, meant)
        }
    }
}

fn mark_programs(view: &View, means: impl Fn(&ProgramView) -> bool, picked: &mut [Vec<bool>], meant: &mut [bool]) -> bool {
    let mut found = false;
    for (index, _) in view.programs.iter().enumerate().filter(|(_, program)| means(program)) {
        picked[index].fill(true);
        meant[index] = true;
        found = true;
    }
    found
}

fn mark_process(view: &View, group: &str, process: &str, picked: &mut [Vec<bool>], meant: &mut [bool]) -> bool {
    for (index, program) in view.programs.iter().enumerate().filter(|(_, program)| program.group.as_str() == group) {
        if let Some(slot) = program.slots.iter().position(|slot| slot.process == process) {
            picked[index][slot] = true;
            meant[index] = true;
            return true;
        }
    }
    false
}

/// The one slot of that label: `group:process`, or a bare name where the two are equal or where the program has
/// only one slot.
pub fn slot<'a>(view: &'a View, label: &str) -> Option<&'a Arc<SlotView>> {
    let (group, process) = label.split_once(':').unwrap_or((label, label));
    view.slots().find(|slot| slot.group.as_str() == group && slot.process == process).or_else(|| {
        let program = view.programs.iter().find(|program| program.name.as_str() == label)?;
        if let [only] = program.slots.as_slice() { Some(only) } else { None }
    })
}

/// The name of a slot, program or group that comes nearest to `name`, if one is near at all.
pub fn nearest(view: &View, name: &str) -> Option<String> {
    // What nobody could have mistyped is not worth comparing with ten thousand names.
    if name.len() > 256 {
        return None;
    }
    let programs = view.programs.iter().flat_map(|program| [program.name.to_string(), program.group.to_string()]);
    let all = programs.chain(view.slots().map(|slot| slot.label()));
    all.map(|known| (strsim::jaro_winkler(name, &known), known))
        .filter(|(likeness, _)| *likeness >= 0.8)
        // The first of equals, which is what `min` gives.
        .min_by(|a, b| b.0.total_cmp(&a.0))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;

    fn labels(view: &View, targets: &[&str]) -> (Vec<String>, Vec<String>) {
        let targets: Vec<Target> = targets.iter().map(|text| Target::read(text)).collect();
        let (programs, unknown) = select(view, &targets);
        (programs.iter().flat_map(|program| &program.slots).map(|slot| slot.label()).collect(), unknown)
    }

    #[test]
    fn targets_mean_what_supervisorctl_users_expect() {
        let view =
            samples::view(&[("cron", "cron", &["cron"]), ("mailer", "mail", &["mailer_00", "mailer_01"]), ("sms", "mail", &["sms"])]);
        let all = ["cron", "mail:mailer_00", "mail:mailer_01", "mail:sms"];
        assert_eq!(labels(&view, &[]).0, all);
        assert_eq!(labels(&view, &["all"]).0, all);
        assert_eq!(labels(&view, &["mail:*"]).0, all[1..]);
        assert_eq!(labels(&view, &["mail"]).0, all[1..]);
        assert_eq!(labels(&view, &["mailer"]).0, all[1..3]);
        assert_eq!(labels(&view, &["cron"]).0, all[..1]);
        assert_eq!(labels(&view, &["mail:mailer_01", "cron", "cron"]).0, ["cron", "mail:mailer_01"]);
        assert_eq!(
            labels(&view, &["mailr", "mail:none", "cron:*", "none:*"]),
            (vec!["cron".into()], vec!["mailr".into(), "mail:none".into(), "none:*".into()])
        );
    }

    #[test]
    fn a_slot_is_found_by_label_or_as_the_only_one_of_its_program() {
        let view = samples::view(&[("cron", "cron", &["cron"]), ("mailer", "mail", &["m_0", "m_1"]), ("sms", "mail", &["sms_0"])]);
        assert_eq!(slot(&view, "mail:m_1").map(|slot| slot.label()), Some("mail:m_1".into()));
        assert_eq!(slot(&view, "cron").map(|slot| slot.label()), Some("cron".into()));
        assert_eq!(slot(&view, "sms").map(|slot| slot.label()), Some("mail:sms_0".into()));
        assert!(slot(&view, "mailer").is_none(), "it has two");
        assert_eq!(nearest(&view, "mialer"), Some("mailer".into()));
        assert_eq!(nearest(&view, "zzz"), None);
    }
}
