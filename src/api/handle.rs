//! `Handle`: what every door holds. Four verbs: ask, view, notices, tail. There is nothing behind it that a
//! door needs.

use crate::logs::Logs;
use crate::model::command::{Answer, Command, Refusal};
use crate::model::notice::Notice;
use crate::model::plan::Plan;
use crate::model::view::View;
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// A request on its way to the engine.
#[derive(Debug)]
pub struct Ask {
    pub who: String,
    pub command: Command,
    pub answer: oneshot::Sender<Answer>,
}

#[derive(Clone, Debug)]
pub struct Handle {
    asks: mpsc::Sender<Ask>,
    view: watch::Receiver<Arc<View>>,
    plan: watch::Receiver<Arc<Plan>>,
    notices: broadcast::Sender<Arc<Notice>>,
    logs: Logs,
}

impl Handle {
    pub fn new(
        asks: mpsc::Sender<Ask>,
        view: watch::Receiver<Arc<View>>,
        plan: watch::Receiver<Arc<Plan>>,
        notices: broadcast::Sender<Arc<Notice>>,
        logs: Logs,
    ) -> Handle {
        Handle { asks, view, plan, notices, logs }
    }

    /// Asks the engine. The answer says what was set going; whoever wants to see it done follows the view.
    pub async fn ask(&self, who: String, command: Command) -> Answer {
        let (answer, answered) = oneshot::channel();
        if self.asks.send(Ask { who, command, answer }).await.is_err() {
            return Err(Refusal::ShuttingDown);
        }
        answered.await.unwrap_or(Err(Refusal::ShuttingDown))
    }

    /// The newest picture.
    pub fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// The definitions in force.
    pub fn plan(&self) -> Arc<Plan> {
        self.plan.borrow().clone()
    }

    /// Pictures as they come; only the newest is kept.
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Notices from now on. Who falls behind is told how many were missed, and reads the view again.
    pub fn notices(&self) -> broadcast::Receiver<Arc<Notice>> {
        self.notices.subscribe()
    }

    pub fn logs(&self) -> &Logs {
        &self.logs
    }
}
