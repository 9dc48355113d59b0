//! What we tell the service manager above us. Without NOTIFY_SOCKET everything here does nothing.
//!
//! A manager that does not listen is not our trouble: sending never fails for the caller. Our environment is never
//! changed; `host::base_environment` keeps these variables from the workers.

use crate::model::time::Span;
use sd_notify::NotifyState;

/// The daemon serves.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    let line = text.replace('\n', " ");
    tell(&[NotifyState::Status(&line)]);
}

/// We are not ready yet, and may need so much longer for what `text` says.
pub fn starting(text: &str, longer: Span) {
    let usec = u32::try_from(longer.0.saturating_mul(1000)).unwrap_or(u32::MAX);
    tell(&[NotifyState::Status(text), NotifyState::ExtendTimeoutUsec(usec)]);
}

/// We are on our way out.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The definitions are read again (`ready` says when that is done). With the time that Type=notify-reload asks for.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(since) => tell(&[NotifyState::Reloading, since]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// A sign of life. To be sent from the main loop itself, or it proves nothing.
pub fn ping() {
    tell(&[NotifyState::Watchdog]);
}

/// How often the manager wants a sign of life; `None` if it does not. Half of it is a good pace.
pub fn watchdog() -> Option<Span> {
    sd_notify::watchdog_enabled().map(|every| Span(u64::try_from(every.as_millis()).unwrap_or(u64::MAX)))
}

fn tell(state: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(state);
}

#[cfg(test)]
mod tests {
    #[test]
    fn without_a_manager_nothing_happens() {
        super::ready();
        super::status("two\nlines");
        super::reloading();
        super::ping();
    }
}
