//! The pins that `run` drives.

use std::sync::Arc;

use super::config::Settings;
use crate::error::{Error, Result};
use crate::model::labels::Labels;
use crate::pipeline::Stop;
use crate::sink::gpio::{self, GpioSink, Rule, Subject};
use crate::telemetry::{GpioOutput, GpioSnapshot, Telemetry};

/// Wrong usage if a label that switches a pin is none of the model's.
pub(super) fn check_labels(settings: &Settings, labels: &Labels) -> Result<()> {
    for rule in &settings.gpio {
        if let Subject::Label(label) = &rule.subject {
            let known = labels.ids_of(label);
            known.map_err(|reason| Error::Usage(format!("gpio: {reason}")))?;
        }
    }
    Ok(())
}

/// The pins that were asked for, off as soon as the end is asked for; none, with a word about it, where they cannot be
/// driven.
pub(super) fn open(
    settings: &Settings,
    telemetry: &Arc<Telemetry>,
    stop: &Stop,
) -> Result<Option<GpioSink>> {
    let (rules, led) = (&settings.gpio, settings.status_led);
    if rules.is_empty() && led.is_none() {
        return Ok(None);
    }
    let pins = match gpio::open(rules, led) {
        Ok(pins) => pins,
        Err(reason) => {
            log::warn!("no GPIO pin is driven, all else runs: {reason}");
            telemetry.set_gpio(GpioSnapshot {
                error: Some(reason),
                outputs: rules.iter().map(off).collect(),
            });
            return Ok(None);
        }
    };
    let sink = GpioSink::start(pins, rules, led, telemetry.clone())?;
    let switch = sink.switch();
    stop.on_stop(move || switch.off());
    Ok(Some(sink))
}

fn off(rule: &Rule) -> GpioOutput {
    GpioOutput {
        pin: rule.output.pin,
        label: rule.subject.name().into(),
        active: false,
    }
}
