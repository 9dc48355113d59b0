//! A `View` as Prometheus reads it.
//!
//! Rendered anew for every scrape from the picture alone, so no label outlives what it stands for. Base units,
//! `_total` for counters, no pid in a label (facts of the field: it would grow without bound). Escaping and the
//! text format are prometheus-client's business.

use crate::model::state::State;
use crate::model::time::Stamp;
use crate::model::view::View;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The whole answer to a scrape.
pub fn text(view: Arc<View>, version: &str) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Picture { view, version: version.to_owned() }));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("a String takes all");
    text
}

#[derive(Debug)]
struct Picture {
    view: Arc<View>,
    version: String,
}

/// The words that people see; several states may share one.
const WORDS: [State; 8] =
    [State::Stopped, State::Starting, State::Waiting, State::Running, State::Backoff, State::Stopping, State::Exited, State::Fatal];

type Labels<'a> = [(&'a str, &'a str)];

impl Collector for Picture {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let view = &*self.view;
        let out = &mut encoder;
        gauges(out, "ganger_up", "Whether the daemon answers, and its version", |put| put(&[("version", &self.version)], 1.0))?;
        gauge(out, "ganger_start_time_seconds", "When the daemon started", seconds(view.started))?;
        let is_newest = f64::from(u8::from(view.faults.is_empty()));
        gauge(out, "ganger_config_last_reload_successful", "Whether the definitions in force are the newest that were read", is_newest)?;
        self.programs(out)?;
        self.slots(out)
    }
}

impl Picture {
    fn programs(&self, out: &mut DescriptorEncoder) -> fmt::Result {
        let programs = &self.view.programs;
        gauges(out, "ganger_workers_wanted", "Workers that are wanted now", |put| {
            programs.iter().try_for_each(|program| put(&[("program", program.name.as_str())], f64::from(program.wanted)))
        })?;
        gauges(out, "ganger_workers_running", "Workers that run and are trusted", |put| {
            programs.iter().try_for_each(|program| put(&[("program", program.name.as_str())], f64::from(program.running)))
        })?;
        counters(out, "ganger_jobs", "Jobs that workers have told of, by result", |put| {
            programs.iter().try_for_each(|program| {
                let name = program.name.as_str();
                put(&[("program", name), ("result", "ok")], program.jobs as f64)?;
                put(&[("program", name), ("result", "error")], program.errors as f64)
            })
        })?;
        counters(out, "ganger_restarts", "Ended workers, by reason", |put| {
            programs.iter().try_for_each(|program| {
                program.ended.iter().try_for_each(|(why, count)| {
                    let reason = why.to_string().replace(' ', "_");
                    put(&[("program", program.name.as_str()), ("reason", &reason)], *count as f64)
                })
            })
        })
    }

    fn slots(&self, out: &mut DescriptorEncoder) -> fmt::Result {
        let slots: Vec<(&str, String, &_)> = self.view.slots().map(|slot| (slot.program.as_str(), slot.label(), &**slot)).collect();
        gauges(out, "ganger_process_state", "1 for the state that a slot is in", |put| {
            slots.iter().try_for_each(|(program, label, slot)| {
                WORDS.iter().try_for_each(|state| {
                    let word = state.word();
                    put(&[("program", program), ("slot", label), ("state", word)], f64::from(u8::from(word == slot.state.word())))
                })
            })
        })?;
        counters(out, "ganger_process_starts", "Workers that were started in a slot", |put| {
            slots.iter().try_for_each(|(program, label, slot)| put(&[("program", program), ("slot", label)], slot.starts as f64))
        })?;
        gauges(out, "ganger_process_start_time_seconds", "When the worker in a slot started", |put| {
            let alive = slots.iter().filter(|(_, _, slot)| slot.pid.is_some());
            alive.into_iter().try_for_each(|(program, label, slot)| put(&[("program", program), ("slot", label)], seconds(slot.started)))
        })?;
        gauges(out, "ganger_process_resident_memory_bytes", "Memory of a worker and its children, as last measured", |put| {
            let measured = slots.iter().filter_map(|(program, label, slot)| slot.memory.map(|memory| (program, label, memory)));
            measured.into_iter().try_for_each(|(program, label, memory)| put(&[("program", program), ("slot", label)], memory.0 as f64))
        })?;
        counters(out, "ganger_process_cpu_seconds", "Processor time of a worker and its children, as last measured", |put| {
            let measured = slots.iter().filter_map(|(program, label, slot)| slot.cpu.map(|cpu| (program, label, cpu)));
            measured.into_iter().try_for_each(|(program, label, cpu)| put(&[("program", program), ("slot", label)], cpu.as_secs_f64()))
        })?;
        gauges(out, "ganger_last_heartbeat_timestamp_seconds", "When a worker last said that it is well", |put| {
            let heard = slots.iter().filter_map(|(program, label, slot)| slot.heartbeat.map(|heartbeat| (program, label, heartbeat)));
            heard.into_iter().try_for_each(|(program, label, heard)| put(&[("program", program), ("slot", label)], seconds(heard)))
        })
    }
}

/// One gauge without labels.
fn gauge(out: &mut DescriptorEncoder, name: &str, help: &str, value: f64) -> fmt::Result {
    out.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

/// One family of gauges; `fill` puts each member.
fn gauges(
    out: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    fill: impl FnOnce(&mut dyn FnMut(&Labels<'_>, f64) -> fmt::Result) -> fmt::Result,
) -> fmt::Result {
    let mut family = out.encode_descriptor(name, help, None, MetricType::Gauge)?;
    fill(&mut |labels, value| family.encode_family(&labels)?.encode_gauge(&value))
}

/// One family of counters, likewise; the encoder adds `_total` to their names.
fn counters(
    out: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    fill: impl FnOnce(&mut dyn FnMut(&Labels<'_>, f64) -> fmt::Result) -> fmt::Result,
) -> fmt::Result {
    let mut family = out.encode_descriptor(name, help, None, MetricType::Counter)?;
    fill(&mut |labels, value| family.encode_family(&labels)?.encode_counter::<NoLabelSet, f64, f64>(&value, None))
}

fn seconds(stamp: Stamp) -> f64 {
    stamp.0 as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;

    #[test]
    fn every_family_is_there_under_its_promised_name() {
        let text = text(Arc::new(samples::view(&[("mailer", "mail", &["m\"0"])])), "1.2.3");
        for line in [
            "ganger_up{version=\"1.2.3\"} 1.0",
            "ganger_config_last_reload_successful 1.0",
            "ganger_workers_wanted{program=\"mailer\"} 1.0",
            "ganger_workers_running{program=\"mailer\"} 1.0",
            "ganger_jobs_total{program=\"mailer\",result=\"ok\"} 12.0",
            "ganger_jobs_total{program=\"mailer\",result=\"error\"} 2.0",
            "ganger_restarts_total{program=\"mailer\",reason=\"crash\"} 1.0",
            "ganger_restarts_total{program=\"mailer\",reason=\"job_timeout\"} 3.0",
            "ganger_process_state{program=\"mailer\",slot=\"mail:m\\\"0\",state=\"RUNNING\"} 1.0",
            "ganger_process_state{program=\"mailer\",slot=\"mail:m\\\"0\",state=\"FATAL\"} 0.0",
            "ganger_process_start_time_seconds{program=\"mailer\",slot=\"mail:m\\\"0\"} 1.5",
            "ganger_process_resident_memory_bytes{program=\"mailer\",slot=\"mail:m\\\"0\"} 33554432.0",
            "ganger_process_cpu_seconds_total{program=\"mailer\",slot=\"mail:m\\\"0\"} 1.25",
            "ganger_last_heartbeat_timestamp_seconds{program=\"mailer\",slot=\"mail:m\\\"0\"} 2.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
