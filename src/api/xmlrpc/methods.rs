//! `supervisor.*` and `system.*`: each one a `Command`, a look at the `View` or the `Plan`, or a read of a log.
//!
//! Names, parameters, results and faults are Supervisor's (4.3.0, `rpcinterface.py` and `xmlrpc.py`). Waiting is ours: a call
//! that waits follows the view and answers when the thing has happened. Where Supervisor has a bug, ours is the cure: a wrong
//! type is fault 2 and no internal error; `sendRemoteCommEvent` sends the plain text; `clearProcessLogs` clears also the logs
//! of what does not run; a slice of a log never cuts a character; a process that is still stopping can be started, and starts
//! when it is gone. Whoever may only look gets FAILED, in words, from what would change something.

use crate::api::access::Caller;
use crate::api::logfile::{self, SliceFault};
use crate::api::rest::Desk;
use crate::api::xmlrpc::faults::{Code, Fault, SUCCESS, is_running, is_signallable};
use crate::api::xmlrpc::info::{self, Today};
use crate::api::xmlrpc::program;
use crate::api::xmlrpc::table::{self, METHODS};
use crate::api::xmlrpc::wire::{Call, Value, int};
use crate::logs::aside;
use crate::model::command::{Command, Outcome, Refusal, Reply};
use crate::model::exit::Exit;
use crate::model::launch::Launch;
use crate::model::name::{SlotId, Target};
use crate::model::signal::Signal;
use crate::model::spec::ProgramSpec;
use crate::model::state::State;
use crate::model::view::{Mood, SlotView, View};
use std::path::PathBuf;
use std::sync::Arc;

type Answered = Result<Value, Fault>;

/// How much the answers to one multicall may come to; calls beyond that fail.
const MAX_ANSWERS: usize = 64 * 1024 * 1024;

/// One caller at the desk.
#[derive(Clone, Copy, Debug)]
pub struct Rpc<'a> {
    pub desk: &'a Desk,
    pub caller: &'a Caller,
}

/// A name as `getProcessInfo` takes it: a process, or a whole group.
enum Named {
    Process(Arc<SlotView>),
    Group(String),
}

/// A process that something was asked for, and how often it had been started before.
struct Asked {
    slot: Arc<SlotView>,
    name: String,
    starts: u64,
}

impl<'a> Rpc<'a> {
    /// Does what `call` wants.
    ///
    /// # Errors
    /// Supervisor's faults.
    pub async fn serve(self, call: Call) -> Answered {
        if call.method == "system.multicall" {
            return match <[Value; 1]>::try_from(call.params) {
                Ok([Value::Array(calls)]) => Ok(self.multicall(calls).await),
                Ok([_]) | Err(_) => Err(Fault::from(Code::IncorrectParameters)),
            };
        }
        self.one(&call.method, &call.params).await
    }

    /// One after the other, each waited for. Results are bare values, not arrays of one as the usual rule has it.
    async fn multicall(self, calls: Vec<Value>) -> Value {
        let mut results = Vec::new();
        let mut size = 0;
        for call in calls {
            let result = match (call.member("methodName"), call.member("params")) {
                (None | Some(Value::Nil), _) => Err(Fault::new(Code::IncorrectParameters, "No methodName")),
                (Some(Value::Text(name)), _) if name == "system.multicall" => {
                    Err(Fault::new(Code::IncorrectParameters, "Recursive system.multicall forbidden"))
                }
                (Some(_), _) if size > MAX_ANSWERS => {
                    Err(Fault::new(Code::Failed, format!("the answers so far have more than {MAX_ANSWERS} bytes")))
                }
                (Some(Value::Text(name)), None) => self.one(name, &[]).await,
                (Some(Value::Text(name)), Some(Value::Array(params))) => self.one(name, params).await,
                (Some(_), _) => Err(Fault::from(Code::IncorrectParameters)),
            };
            let result = result.unwrap_or_else(|fault| {
                Value::structure([("faultCode", Value::Int(fault.number())), ("faultString", Value::Text(fault.to_string()))])
            });
            size += result.size();
            results.push(result);
        }
        Value::Array(results)
    }

    async fn one(self, name: &str, params: &[Value]) -> Answered {
        let method = table::find(name).ok_or(Fault::from(Code::UnknownMethod))?;
        if !method.takes(params.len()) {
            return Err(Code::IncorrectParameters.into());
        }
        if let Err(refusal) = self.caller.may(method.role) {
            return Err(Fault::of(&refusal, ""));
        }
        let Some(name) = name.strip_prefix("supervisor.") else { return system(name, params) };
        if name != "sendRemoteCommEvent" && self.view().mood != Mood::Running {
            return Err(Code::ShutdownState.into());
        }
        let wait = |at: usize| params.get(at).is_none_or(truth);
        match name {
            "getAPIVersion" | "getVersion" => Ok(Value::text("3.0")),
            "getSupervisorVersion" => Ok(Value::text(&self.desk.host.supervisor_version)),
            "getIdentification" => Ok(Value::text(&self.desk.host.identifier)),
            "getState" => Ok(Value::structure([("statecode", Value::Int(1)), ("statename", Value::text("RUNNING"))])),
            "getPID" => Ok(Value::Int(i64::from(self.desk.host.pid))),
            "readLog" | "readMainLog" => self.read_main_log(number(&params[0])?, number(&params[1])?).await,
            "clearLog" => self.clear_main_log().await,
            "shutdown" => self.done(Command::Shutdown, "").await,
            "restart" => self.done(Command::Renew, "").await,
            "reloadConfig" => self.reload_config().await,
            "addProcessGroup" => {
                let name = text(&params[0])?;
                self.done(Command::AddGroup { name: name.to_owned() }, name).await
            }
            "removeProcessGroup" => {
                let name = text(&params[0])?;
                self.done(Command::RemoveGroup { name: name.to_owned() }, name).await
            }
            "startProcess" => match self.named(text(&params[0])?)? {
                Named::Process(slot) => self.start_one(slot, text(&params[0])?, wait(1)).await,
                Named::Group(group) => self.start_all(self.group(&group)?, wait(1)).await,
            },
            "startProcessGroup" => self.start_all(self.group(text(&params[0])?)?, wait(1)).await,
            "startAllProcesses" => self.start_all(self.everything(), wait(0)).await,
            "stopProcess" => match self.named(text(&params[0])?)? {
                Named::Process(slot) => self.stop_one(slot, text(&params[0])?, wait(1)).await,
                Named::Group(group) => self.stop_all(self.group(&group)?, wait(1)).await,
            },
            "stopProcessGroup" => self.stop_all(self.group(text(&params[0])?)?, wait(1)).await,
            "stopAllProcesses" => self.stop_all(self.everything(), wait(0)).await,
            "signalProcess" => match self.named(text(&params[0])?)? {
                Named::Process(slot) => self.signal_one(&slot, text(&params[0])?, &params[1]).await,
                Named::Group(group) => self.signal_all(self.group(&group)?, &params[1]).await,
            },
            "signalProcessGroup" => self.signal_all(self.group(text(&params[0])?)?, &params[1]).await,
            "signalAllProcesses" => self.signal_all(self.everything(), &params[0]).await,
            "getProcessInfo" => {
                let slot = self.process(text(&params[0])?)?;
                Ok(self.infos(vec![slot]).await.remove(0))
            }
            "getAllProcessInfo" => {
                let mut slots: Vec<Arc<SlotView>> = self.view().slots().cloned().collect();
                slots.sort_by(|a, b| (&a.group, &a.process).cmp(&(&b.group, &b.process)));
                Ok(Value::Array(self.infos(slots).await))
            }
            "getAllConfigInfo" => Ok(self.all_config()),
            "readProcessStdoutLog" | "readProcessLog" => self.read_log(params, false).await,
            "readProcessStderrLog" => self.read_log(params, true).await,
            "tailProcessStdoutLog" | "tailProcessLog" => self.tail_log(params, false).await,
            "tailProcessStderrLog" => self.tail_log(params, true).await,
            "clearProcessLogs" | "clearProcessLog" => {
                let name = text(&params[0])?;
                self.clear_log(&*self.process(name)?, name).await
            }
            "clearAllProcessLogs" => self.clear_all_logs().await,
            "sendProcessStdin" => self.send_stdin(text(&params[0]), &params[1]).await,
            "sendRemoteCommEvent" => {
                let (event, data) = (text(&params[0])?.to_owned(), text(&params[1])?.to_owned());
                self.done(Command::Remote { event, data }, "").await
            }
            _ => Err(Code::UnknownMethod.into()),
        }
    }

    // ---- looking ----

    fn view(self) -> Arc<View> {
        self.desk.handle.view()
    }

    /// What `name` means: `name` and `group:name` a process; `group:` and `group:*` a group.
    fn named(self, name: &str) -> Result<Named, Fault> {
        match name.split_once(':') {
            Some((group, "" | "*")) if self.view().programs.iter().any(|program| program.group.as_str() == group) => {
                Ok(Named::Group(group.to_owned()))
            }
            Some((_, "" | "*")) => Err(Fault::new(Code::BadName, name)),
            Some((group, process)) => self.find(group, process, name).map(Named::Process),
            None => self.find(name, name, name).map(Named::Process),
        }
    }

    fn process(self, name: &str) -> Result<Arc<SlotView>, Fault> {
        match self.named(name)? {
            Named::Process(slot) => Ok(slot),
            Named::Group(_) => Err(Fault::new(Code::BadName, name)),
        }
    }

    fn find(self, group: &str, process: &str, name: &str) -> Result<Arc<SlotView>, Fault> {
        let view = self.view();
        let found = view.slots().find(|slot| slot.group.as_str() == group && slot.process == process).cloned();
        found.ok_or_else(|| Fault::new(Code::BadName, name))
    }

    /// The processes of a group, in the order in which they are started.
    fn group(self, name: &str) -> Result<Vec<Arc<SlotView>>, Fault> {
        let view = self.view();
        if !view.programs.iter().any(|program| program.group.as_str() == name) {
            return Err(Fault::new(Code::BadName, name));
        }
        Ok(self.in_order(view.programs.iter().filter(|program| program.group.as_str() == name).flat_map(|program| &program.slots)))
    }

    fn everything(self) -> Vec<Arc<SlotView>> {
        self.in_order(self.view().slots())
    }

    fn in_order<'v>(self, slots: impl Iterator<Item = &'v Arc<SlotView>>) -> Vec<Arc<SlotView>> {
        let plan = self.desk.handle.plan();
        let rank = |slot: &SlotView| {
            let spec = plan.programs.get(&slot.program);
            spec.map(|spec| (info::group_priority(&plan, spec), spec.policy.priority))
        };
        let mut ranked: Vec<_> = slots.map(|slot| (rank(slot), Arc::clone(slot))).collect();
        ranked.sort_by(|(a, x), (b, y)| {
            let (group_a, own_a) = a.unwrap_or_default();
            let (group_b, own_b) = b.unwrap_or_default();
            (group_a, &x.group, own_a, &x.process).cmp(&(group_b, &y.group, own_b, &y.process))
        });
        ranked.into_iter().map(|(_, slot)| slot).collect()
    }

    async fn infos(self, slots: Vec<Arc<SlotView>>) -> Vec<Value> {
        let plan = self.desk.handle.plan();
        let spec = |slot: &SlotView| plan.programs.get(&slot.program);
        // Only of those that could not be started is the program looked at.
        let lost: Vec<Option<Launch>> =
            slots.iter().map(|slot| spec(slot).filter(|_| info::was_not_spawned(slot)).map(|spec| spec.launch_of(slot.number))).collect();
        let mut why: Vec<Option<String>> = vec![None; slots.len()];
        if lost.iter().any(Option::is_some) {
            let look = move || lost.iter().map(|launch| program::check(launch.as_ref()?).err()?.detail()).collect();
            why = aside(look).await.unwrap_or(why);
        }
        let today = Today::read();
        let one = |(slot, why): (&Arc<SlotView>, Option<String>)| {
            let spec = spec(slot).map(|spec| &**spec);
            info::process(slot, spec, &today, info::spawnerr(slot, spec, why))
        };
        slots.iter().zip(why).map(one).collect()
    }

    fn all_config(self) -> Value {
        let view = self.view();
        let plan = self.desk.handle.plan();
        info::config(&plan, |group| view.programs.iter().any(|program| program.group.as_str() == group))
    }

    // ---- asking ----

    async fn ask(self, command: Command) -> Result<Reply, Refusal> {
        self.desk.ask(self.caller, command).await
    }

    /// A wish about `name` that is done with a yes.
    async fn done(self, command: Command, name: &str) -> Answered {
        self.ask(command).await.map(|_| Value::Bool(true)).map_err(|refusal| Fault::of(&refusal, name))
    }

    async fn reload_config(self) -> Answered {
        match self.ask(Command::Reread).await {
            Ok(Reply::Groups { added, changed, removed }) => {
                let names = |names: Vec<String>| Value::Array(names.into_iter().map(Value::Text).collect());
                // An array in an array: "cannot return len > 1, apparently", says Supervisor's source.
                Ok(Value::Array(vec![Value::Array(vec![names(added), names(changed), names(removed)])]))
            }
            Ok(other) => Err(astray(&other)),
            Err(refusal) => Err(Fault::of(&refusal, "")),
        }
    }

    /// Asks for something for each of `slots`; the refusals, in their order.
    async fn each(self, slots: &[Asked], command: impl FnOnce(Vec<Target>) -> Command) -> Result<Vec<Option<Refusal>>, Fault> {
        if slots.is_empty() {
            return Ok(Vec::new());
        }
        let target = |slot: &SlotView| Target::Process { group: slot.group.to_string(), process: slot.process.clone() };
        let command = command(slots.iter().map(|asked| target(&asked.slot)).collect());
        let outcomes = match self.ask(command).await {
            Ok(Reply::Outcomes(outcomes)) => outcomes,
            Ok(other) => return Err(astray(&other)),
            Err(refusal) => return Err(Fault::of(&refusal, &slots[0].name)),
        };
        let refused = |asked: &Asked| {
            let (label, full) = (asked.slot.label(), target(&asked.slot).to_string());
            outcomes.iter().find(|Outcome { name, .. }| *name == label || *name == full).and_then(|outcome| outcome.refused.clone())
        };
        if outcomes.len() == slots.len() && outcomes.iter().all(|outcome| outcome.refused.is_none()) {
            return Ok(vec![None; slots.len()]);
        }
        Ok(slots.iter().map(refused).collect())
    }

    /// Shows `judge` every picture from now on, until it has seen enough.
    async fn follow<T>(self, mut judge: impl FnMut(&View) -> Option<T>) -> Result<T, Fault> {
        let mut views = self.desk.handle.views();
        loop {
            let view = views.borrow_and_update().clone();
            if let Some(verdict) = judge(&view) {
                return Ok(verdict);
            }
            if views.changed().await.is_err() {
                return Err(Code::ShutdownState.into());
            }
        }
    }

    // ---- starting and stopping ----

    async fn start_one(self, slot: Arc<SlotView>, name: &str, wait: bool) -> Answered {
        let (asked, faults) = self.startable(vec![slot], |_| name.to_owned()).await;
        if let Some((_, fault)) = faults.into_iter().next() {
            return Err(fault);
        }
        let mut results = self.started(asked, wait).await?;
        results.pop().map_or(Ok(Value::Bool(true)), |(_, result)| result.map(|()| Value::Bool(true)))
    }

    async fn start_all(self, slots: Vec<Arc<SlotView>>, wait: bool) -> Answered {
        let slots = slots.into_iter().filter(|slot| !is_running(slot.state)).collect();
        let (asked, faults) = self.startable(slots, |slot| slot.label()).await;
        let mut results: Vec<_> = faults.into_iter().map(|(slot, fault)| (slot, Err(fault))).collect();
        results.extend(self.started(asked, wait).await?);
        Ok(table_of(results))
    }

    /// Sorts out those of which Supervisor would not even try to start the program.
    async fn startable(self, slots: Vec<Arc<SlotView>>, name: impl Fn(&SlotView) -> String) -> (Vec<Asked>, Vec<(Arc<SlotView>, Fault)>) {
        let plan = self.desk.handle.plan();
        let launches: Vec<Option<Launch>> =
            slots.iter().map(|slot| plan.programs.get(&slot.program).map(|spec| spec.launch_of(slot.number))).collect();
        let count = launches.len();
        let look = move || launches.iter().map(|launch| program::check(launch.as_ref()?).err()).collect();
        let lost: Vec<Option<Fault>> = aside(look).await.unwrap_or_else(|| vec![None; count]);
        let (mut asked, mut faults) = (Vec::new(), Vec::new());
        for (slot, lost) in slots.into_iter().zip(lost) {
            let name = name(&slot);
            match lost {
                Some(fault) => faults.push((slot, fault)),
                // The order of these two is Supervisor's.
                None if is_running(slot.state) => faults.push((slot, Fault::new(Code::AlreadyStarted, name))),
                None => asked.push(Asked { starts: slot.starts, slot, name }),
            }
        }
        (asked, faults)
    }

    /// Starts them, and says what became of each in the order in which it was known.
    async fn started(self, asked: Vec<Asked>, wait: bool) -> Result<Vec<(Arc<SlotView>, Result<(), Fault>)>, Fault> {
        let refused = self.each(&asked, |targets| Command::Start { targets }).await?;
        let plan = self.desk.handle.plan();
        let judge = |view: &View, asked: &Asked| {
            let verdict =
                start_verdict(find_again(view, &asked.slot), asked.starts, plan.programs.get(&asked.slot.program).map(|spec| &**spec));
            match verdict {
                Verdict::Pending if wait => None,
                Verdict::Pending | Verdict::Done => Some(Ok(())),
                Verdict::Failed(code) => Some(Err(Fault::new(code, asked.name.clone()))),
            }
        };
        self.results(asked, refused, judge).await
    }

    async fn stop_one(self, slot: Arc<SlotView>, name: &str, wait: bool) -> Answered {
        if !may_be_stopped(&slot) {
            return Err(Fault::new(Code::NotRunning, name));
        }
        let asked = vec![Asked { starts: slot.starts, slot, name: name.to_owned() }];
        let mut results = self.stopped(asked, wait).await?;
        results.pop().map_or(Ok(Value::Bool(true)), |(_, result)| result.map(|()| Value::Bool(true)))
    }

    async fn stop_all(self, slots: Vec<Arc<SlotView>>, wait: bool) -> Answered {
        let asked = slots.into_iter().filter(|slot| may_be_stopped(slot));
        let asked = asked.map(|slot| Asked { name: slot.label(), starts: slot.starts, slot }).collect();
        Ok(table_of(self.stopped(asked, wait).await?))
    }

    async fn stopped(self, asked: Vec<Asked>, wait: bool) -> Result<Vec<(Arc<SlotView>, Result<(), Fault>)>, Fault> {
        let refused = self.each(&asked, |targets| Command::Stop { targets }).await?;
        let judge = |view: &View, asked: &Asked| {
            let is_down = match find_again(view, &asked.slot) {
                // Started again since then: so it was down.
                Some(slot) if slot.starts > asked.starts => true,
                Some(slot) => match slot.state {
                    State::Stopped | State::Exited | State::Fatal => true,
                    State::Launching
                    | State::Waiting
                    | State::Starting
                    | State::Running
                    | State::Backoff
                    | State::Stopping
                    | State::Clearing => false,
                },
                None => true,
            };
            (is_down || !wait).then_some(Ok(()))
        };
        self.results(asked, refused, judge).await
    }

    /// Follows the view until all of `asked` have a result; those that were refused have theirs already.
    async fn results(
        self,
        asked: Vec<Asked>,
        refused: Vec<Option<Refusal>>,
        judge: impl Fn(&View, &Asked) -> Option<Result<(), Fault>>,
    ) -> Result<Vec<(Arc<SlotView>, Result<(), Fault>)>, Fault> {
        let mut results = Vec::new();
        let mut pending = Vec::new();
        for (asked, refused) in asked.into_iter().zip(refused) {
            match refused {
                Some(refusal) => {
                    let fault = Fault::of(&refusal, &asked.name);
                    results.push((asked.slot, Err(fault)));
                }
                None => pending.push(asked),
            }
        }
        let all_known = |view: &View| {
            let mut still = Vec::new();
            for asked in std::mem::take(&mut pending) {
                match judge(view, &asked) {
                    Some(result) => results.push((asked.slot, result)),
                    None => still.push(asked),
                }
            }
            pending = still;
            pending.is_empty().then_some(())
        };
        self.follow(all_known).await?;
        Ok(results)
    }

    // ---- signals ----

    async fn signal_one(self, slot: &Arc<SlotView>, name: &str, signal: &Value) -> Answered {
        let signal = read_signal(signal)?;
        if !is_signallable(slot.state) {
            return Err(Fault::new(Code::NotRunning, name));
        }
        let asked = [Asked { slot: Arc::clone(slot), name: name.to_owned(), starts: slot.starts }];
        let refused = self.each(&asked, |targets| Command::Signal { targets, signal }).await?;
        match refused.into_iter().flatten().next() {
            Some(refusal) => Err(Fault::of(&refusal, name)),
            None => Ok(Value::Bool(true)),
        }
    }

    async fn signal_all(self, slots: Vec<Arc<SlotView>>, signal: &Value) -> Answered {
        let slots = slots.into_iter().filter(|slot| is_signallable(slot.state));
        let asked: Vec<Asked> = slots.map(|slot| Asked { name: slot.label(), starts: slot.starts, slot }).collect();
        let refused = match read_signal(signal) {
            Ok(signal) => {
                let refused = self.each(&asked, |targets| Command::Signal { targets, signal }).await?;
                refused.into_iter().zip(&asked).map(|(refused, asked)| refused.map(|refusal| Fault::of(&refusal, &asked.name))).collect()
            }
            Err(fault) => vec![Some(fault); asked.len()],
        };
        Ok(table_of(asked.into_iter().zip(refused).map(|(asked, refused)| (asked.slot, refused.map_or(Ok(()), Err))).collect()))
    }

    // ---- logs ----

    /// The log file of the process that the first parameter names.
    fn log_path(self, name: &str, stderr: bool) -> Result<Option<PathBuf>, Fault> {
        let slot = self.process(name)?;
        let plan = self.desk.handle.plan();
        let Some(spec) = plan.programs.get(&slot.program) else { return Ok(None) };
        let (out, err) = info::logs(spec, slot.number);
        Ok(if stderr { err } else { out }.map(PathBuf::from))
    }

    async fn read_log(self, params: &[Value], stderr: bool) -> Answered {
        let path = self.log_path(text(&params[0])?, stderr)?;
        read_file(path, number(&params[1])?, number(&params[2])?).await
    }

    async fn read_main_log(self, offset: i64, length: i64) -> Answered {
        read_file(self.desk.host.main_log.clone(), offset, length).await
    }

    async fn tail_log(self, params: &[Value], stderr: bool) -> Answered {
        let path = self.log_path(text(&params[0])?, stderr)?;
        let (offset, length) = (number(&params[1])?, number(&params[2])?);
        let tail = aside(move || match path {
            Some(path) if path.exists() => logfile::tail(&path, offset, length),
            Some(_) | None => (String::new(), 0, false),
        });
        let (text, size, overflow) = tail.await.ok_or(Fault::from(Code::Failed))?;
        Ok(Value::Array(vec![Value::Text(text), Value::Int(size), Value::Bool(overflow)]))
    }

    /// Empties the file in place: whoever writes to it appends. Supervisor removes it and opens a new one.
    async fn clear_main_log(self) -> Answered {
        let Some(path) = self.desk.host.main_log.clone() else { return Err(Code::NoFile.into()) };
        let cleared = aside(move || match std::fs::metadata(&path) {
            Err(_) => Err(Code::NoFile),
            Ok(_) => std::fs::OpenOptions::new().write(true).truncate(true).open(&path).map_err(|_| Code::Failed),
        });
        match cleared.await.unwrap_or(Err(Code::Failed)) {
            Ok(_) => Ok(Value::Bool(true)),
            Err(code) => Err(code.into()),
        }
    }

    async fn clear_log(self, slot: &SlotView, name: &str) -> Answered {
        use crate::logs::TailError;
        match self.desk.handle.logs().clear(SlotId::new(&slot.program, slot.number)).await {
            // A slot that never had a worker has no log to clear.
            Ok(()) | Err(TailError::NoSuchSlot) => Ok(Value::Bool(true)),
            Err(TailError::NoSuchChannel | TailError::Unreadable(_)) => Err(Fault::new(Code::Failed, name)),
        }
    }

    async fn clear_all_logs(self) -> Answered {
        let mut results = Vec::new();
        for slot in self.everything() {
            let cleared = self.clear_log(&slot, &slot.label()).await.map(|_| ());
            results.push((slot, cleared));
        }
        Ok(table_of(results))
    }

    // ---- words to workers ----

    async fn send_stdin(self, name: Result<&'a str, Fault>, chars: &Value) -> Answered {
        let Value::Text(chars) = chars else { return Err(Fault::new(Code::IncorrectParameters, shown(chars))) };
        let name = name?;
        let slot = self.process(name)?;
        if slot.pid.is_none() || !matches!(slot.state, State::Starting | State::Running) {
            return Err(Fault::new(Code::NotRunning, name));
        }
        let target = Target::Process { group: slot.group.to_string(), process: slot.process.clone() };
        let refused = match self.ask(Command::Feed { target, text: chars.clone() }).await {
            Ok(Reply::Outcomes(outcomes)) => outcomes.into_iter().find_map(|outcome| outcome.refused),
            Ok(_) => None,
            Err(refusal) => Some(refusal),
        };
        refused.map_or(Ok(Value::Bool(true)), |refusal| Err(Fault::of(&refusal, name)))
    }
}

fn system(name: &str, params: &[Value]) -> Answered {
    let method =
        || -> Result<&'static table::Method, Fault> { table::find(text(&params[0])?).ok_or(Fault::from(Code::SignatureUnsupported)) };
    match name {
        "system.listMethods" => Ok(Value::Array(METHODS.iter().map(|method| Value::text(method.name)).collect())),
        "system.methodHelp" => Ok(Value::Text(method()?.help())),
        "system.methodSignature" => Ok(Value::Array(method()?.signature().into_iter().map(Value::text).collect())),
        _ => Err(Code::UnknownMethod.into()),
    }
}

// ---- verdicts ----

/// How a start has come out so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pending,
    Done,
    Failed(Code),
}

/// `starts`: how often it had been started before it was asked for.
fn start_verdict(slot: Option<&SlotView>, starts: u64, spec: Option<&ProgramSpec>) -> Verdict {
    let Some(slot) = slot else { return Verdict::Failed(Code::AbnormalTermination) };
    let was_tried = slot.starts > starts;
    match slot.state {
        State::Running => Verdict::Done,
        // One failed between two pictures.
        State::Launching | State::Starting if slot.starts > starts + 1 => Verdict::Failed(Code::SpawnError),
        State::Launching | State::Starting => Verdict::Pending,
        State::Waiting => Verdict::Failed(Code::SpawnError),
        State::Backoff | State::Fatal if was_tried => Verdict::Failed(Code::SpawnError),
        State::Exited if was_tried => {
            let expected = match (slot.exit, spec) {
                (Some(Exit::Code(code)), Some(spec)) => spec.policy.exitcodes.contains(&code),
                (Some(Exit::Signal(_)), _) => false,
                (Some(Exit::Code(_) | Exit::Unknown) | None, _) => true,
            };
            Verdict::Failed(if expected { Code::AbnormalTermination } else { Code::SpawnError })
        }
        // Its turn has not come yet, or it is being replaced; unless somebody stopped it.
        State::Stopped | State::Backoff | State::Exited | State::Fatal | State::Stopping | State::Clearing if slot.wanted => {
            Verdict::Pending
        }
        State::Stopped | State::Backoff | State::Exited | State::Fatal | State::Stopping | State::Clearing => {
            Verdict::Failed(Code::AbnormalTermination)
        }
    }
}

/// What runs, and what would start by itself.
fn may_be_stopped(slot: &SlotView) -> bool {
    match slot.state {
        State::Launching | State::Starting | State::Running | State::Backoff | State::Waiting => true,
        State::Stopped => slot.wanted,
        State::Exited | State::Fatal => slot.next_try.is_some(),
        State::Stopping | State::Clearing => false,
    }
}

fn find_again<'v>(view: &'v View, slot: &SlotView) -> Option<&'v SlotView> {
    let program = view.programs.iter().find(|program| program.name == slot.program)?;
    program.slots.iter().find(|other| other.number == slot.number).map(|slot| &**slot)
}

// ---- parameters and results ----

fn text(value: &Value) -> Result<&str, Fault> {
    match value {
        Value::Text(text) => Ok(text),
        Value::Int(_) | Value::Bool(_) | Value::Double(_) | Value::Array(_) | Value::Struct(_) | Value::Nil => {
            Err(Code::IncorrectParameters.into())
        }
    }
}

/// As Python's `int()` takes it.
fn number(value: &Value) -> Result<i64, Fault> {
    let number = match value {
        Value::Int(number) => Some(*number),
        Value::Bool(truth) => Some(i64::from(*truth)),
        // `as` saturates.
        Value::Double(number) if number.is_finite() => Some(*number as i64),
        Value::Text(text) => int(text),
        Value::Double(_) | Value::Array(_) | Value::Struct(_) | Value::Nil => None,
    };
    number.ok_or(Fault::from(Code::IncorrectParameters))
}

/// As Python takes any value for true or false.
fn truth(value: &Value) -> bool {
    match value {
        Value::Bool(truth) => *truth,
        Value::Int(number) => *number != 0,
        Value::Double(number) => *number != 0.0,
        Value::Text(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Struct(members) => !members.is_empty(),
        Value::Nil => false,
    }
}

/// A signal by name or number.
fn read_signal(value: &Value) -> Result<Signal, Fault> {
    let signal = match value {
        Value::Text(text) => text.parse().ok(),
        Value::Int(number) => i32::try_from(*number).ok().and_then(Signal::from_number),
        Value::Bool(_) | Value::Double(_) | Value::Array(_) | Value::Struct(_) | Value::Nil => None,
    };
    signal.ok_or_else(|| Fault::new(Code::BadSignal, shown(value)))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Bool(truth) => if *truth { "True" } else { "False" }.to_owned(),
        Value::Double(number) => format!("{number:?}"),
        Value::Array(_) => "an array".to_owned(),
        Value::Struct(_) => "a struct".to_owned(),
        Value::Nil => "None".to_owned(),
    }
}

/// The results for a group, as `startProcessGroup` and its like give them.
fn table_of(results: Vec<(Arc<SlotView>, Result<(), Fault>)>) -> Value {
    let row = |(slot, result): (Arc<SlotView>, Result<(), Fault>)| {
        let (status, description) = match result {
            Ok(()) => (SUCCESS, "OK".to_owned()),
            Err(fault) => (fault.number(), fault.to_string()),
        };
        Value::structure([
            ("name", Value::text(&slot.process)),
            ("group", Value::text(slot.group.as_str())),
            ("status", Value::Int(status)),
            ("description", Value::Text(description)),
        ])
    };
    Value::Array(results.into_iter().map(row).collect())
}

async fn read_file(path: Option<PathBuf>, offset: i64, length: i64) -> Answered {
    let Some(path) = path else { return Err(Code::NoFile.into()) };
    let read = aside(move || {
        if !path.exists() {
            return Err(Fault::new(Code::NoFile, path.display().to_string()));
        }
        logfile::read(&path, offset, length).map_err(|fault| match fault {
            SliceFault::BadArguments => Code::BadArguments.into(),
            SliceFault::Failed => Code::Failed.into(),
        })
    });
    read.await.unwrap_or(Err(Code::Failed.into())).map(Value::Text)
}

/// An answer of the engine that no method expects: a fault of ours.
fn astray(reply: &Reply) -> Fault {
    tracing::error!("an answer that XML-RPC has no words for: {reply:?}");
    Fault::new(Code::Failed, "a fault of ours; the daemon's log tells more")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;

    fn slot(state: State, starts: u64, wanted: bool) -> SlotView {
        let view = samples::view(&[("mail", "mail", &["mail_0"])]);
        SlotView { state, starts, wanted, ..SlotView::clone(&view.programs[0].slots[0]) }
    }

    /// Every state, before and after the start was tried.
    #[test]
    fn a_start_comes_out_as_the_view_tells() {
        use Verdict::{Done, Failed, Pending};
        let spec = ProgramSpec::new("mail", vec![]);
        let verdict = |state, starts, wanted| start_verdict(Some(&slot(state, starts, wanted)), 3, Some(&spec));
        for state in [State::Stopped, State::Exited, State::Fatal, State::Backoff, State::Stopping, State::Clearing] {
            assert_eq!(verdict(state, 3, true), Pending, "{state}: not tried yet");
            assert_eq!(verdict(state, 3, false), Failed(Code::AbnormalTermination), "{state}: stopped by somebody");
        }
        assert_eq!(verdict(State::Starting, 4, true), Pending);
        assert_eq!(verdict(State::Running, 4, true), Done);
        assert_eq!(verdict(State::Backoff, 4, true), Failed(Code::SpawnError));
        assert_eq!(verdict(State::Starting, 5, true), Failed(Code::SpawnError), "a failure between two pictures");
        assert_eq!(verdict(State::Waiting, 3, true), Failed(Code::SpawnError));
        assert_eq!(verdict(State::Stopping, 4, false), Failed(Code::AbnormalTermination));
        let exited = |exit| start_verdict(Some(&SlotView { exit: Some(exit), ..slot(State::Exited, 4, true) }), 3, Some(&spec));
        assert_eq!(exited(Exit::Code(0)), Failed(Code::AbnormalTermination));
        assert_eq!(exited(Exit::Code(1)), Failed(Code::SpawnError));
        assert_eq!(start_verdict(None, 3, None), Failed(Code::AbnormalTermination));
    }

    #[test]
    fn parameters_are_taken_as_python_takes_them() {
        let numbers = [Value::Int(5), Value::text(" 5 "), Value::Double(5.9), Value::Bool(true)].map(|value| number(&value));
        assert_eq!(numbers, [Ok(5), Ok(5), Ok(5), Ok(1)]);
        assert!(number(&Value::text("x")).is_err() && number(&Value::Nil).is_err());
        assert!(!truth(&Value::Nil) && !truth(&Value::Int(0)) && truth(&Value::text("0")));
        assert_eq!(read_signal(&Value::text("hup")), Ok(Signal::HUP));
        assert_eq!(read_signal(&Value::Int(15)), Ok(Signal::TERM));
        assert_eq!(read_signal(&Value::text("NOPE")).expect_err("none").to_string(), "BAD_SIGNAL: NOPE");
    }
}
