//! The pins of a Raspberry Pi.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use rppal::gpio::{Error, Gpio, Mode, OutputPin};
use rppal::system::DeviceInfo;

use super::outputs::Pins;
use super::rule::{Level, Output};

const MISSING: &str = "/dev/gpiomem (/dev/gpiomem0 on a Pi 5) or the /dev/gpiochip of the header is missing; in a \
                       container, pass both in";

/// Pins as outputs. They stay outputs at their last level when this is dropped, so that nothing floats.
struct RpiPins(BTreeMap<u8, OutputPin>);

impl Pins for RpiPins {
    fn set(&mut self, pin: u8, level: Level) {
        if let Some(pin) = self.0.get_mut(&pin) {
            match level {
                Level::Low => pin.set_low(),
                Level::High => pin.set_high(),
            }
        }
    }
}

/// Makes outputs of pins, switched off. An error says, in words, why there are none here and what to do.
pub(super) fn open(outputs: &[Output]) -> Result<Box<dyn Pins>, String> {
    let gpio = Gpio::new().map_err(reason)?;
    let mut pins = BTreeMap::new();
    for output in outputs {
        if pins.contains_key(&output.pin) {
            continue;
        }
        let pin = gpio.get(output.pin).map_err(reason)?;
        let mode = pin.mode();
        if !matches!(mode, Mode::Input | Mode::Output | Mode::Null) {
            log::warn!(
                "GPIO {} was at work as {mode} (a bus, PWM or clock) and is an output now",
                output.pin
            );
        }
        let mut pin = match output.active {
            Level::Low => pin.into_output_high(),
            Level::High => pin.into_output_low(),
        };
        pin.set_reset_on_drop(false);
        pins.insert(output.pin, pin);
    }
    Ok(Box::new(RpiPins(pins)))
}

/// The board whose pins can be driven, else why they cannot.
pub(super) fn probe() -> Result<String, String> {
    Gpio::new().map_err(reason)?;
    let board = DeviceInfo::new().map_err(|error| error.to_string())?;
    Ok(board.model().to_string())
}

fn reason(error: Error) -> String {
    match error {
        Error::UnknownModel => "this is not a Raspberry Pi, or one that eyas does not know".into(),
        // What rppal tries where there is no /dev/gpiomem.
        Error::PermissionDenied(path) if path == "/dev/mem" => MISSING.into(),
        Error::PermissionDenied(path) => no_permission(&path),
        Error::Io(error) if error.kind() == ErrorKind::PermissionDenied => {
            no_permission("/dev/gpiomem0")
        }
        Error::Io(error) if error.kind() == ErrorKind::NotFound => MISSING.into(),
        error => error.to_string(),
    }
}

fn no_permission(path: &str) -> String {
    format!(
        "no permission for {path}; add the user to its group (`sudo usermod -aG gpio USER`, then log in again), as a \
         service with SupplementaryGroups=gpio"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_way_is_told_with_its_remedy() {
        let denied = Error::PermissionDenied("/dev/gpiomem".into());
        assert!(reason(denied).starts_with("no permission for /dev/gpiomem; add the user"));
        let missing = Error::Io(ErrorKind::NotFound.into());
        let without_memory = Error::PermissionDenied("/dev/mem".into());
        for error in [missing, without_memory] {
            assert!(reason(error).contains("container"));
        }
        assert!(reason(Error::UnknownModel).contains("not a Raspberry Pi"));
    }
}
