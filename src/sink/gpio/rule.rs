//! What `--gpio` and `--status-led` say.

use std::str::FromStr;
use std::time::Duration;

/// The pins of the header of every Raspberry Pi, by BCM number. Those above belong to the board itself.
const LAST_PIN: u8 = 27;

const DEFAULT_HOLD: Duration = Duration::from_secs(1);
const LONGEST_HOLD: Duration = Duration::from_secs(24 * 60 * 60);

/// The voltage of a pin: ground or 3.3 V.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Low,
    High,
}

impl std::ops::Not for Level {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }
}

/// A pin that is driven: `PIN[,active=low|high]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// BCM number, 0 to 27.
    pub pin: u8,
    /// The level that means "on".
    pub active: Level,
}

/// When a pin is on: `LABEL=PIN[,hold=DURATION][,active=low|high]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub subject: Subject,
    pub output: Output,
    /// How long the pin stays on after the last scene with the subject: above 0, at most a day.
    pub hold: Duration,
}

/// What switches a pin on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Whatever is found: `any` or `*`.
    Any,
    /// Detections of this label, without regard to the case of ASCII letters.
    Label(String),
}

impl Subject {
    /// As it is written in rules, status and metrics.
    pub fn name(&self) -> &str {
        match self {
            Self::Any => "any",
            Self::Label(label) => label,
        }
    }

    /// Whether a detection of this label switches on.
    pub fn matches(&self, label: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Label(wanted) => wanted.eq_ignore_ascii_case(label),
        }
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((label, rest)) = text.split_once('=').filter(|(label, _)| !label.is_empty())
        else {
            return Err("not of the form LABEL=PIN[,hold=2s][,active=low], like person=17".into());
        };
        let subject = match label {
            "any" | "*" => Subject::Any,
            label => Subject::Label(label.into()),
        };
        let mut hold = DEFAULT_HOLD;
        let output = parse_output(rest, |key, value| match key {
            "hold" => {
                hold = parse_hold(value)?;
                Ok(())
            }
            _ => Err(format!("{key:?} is neither hold nor active")),
        })?;
        Ok(Self {
            subject,
            output,
            hold,
        })
    }
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_output(text, |key, _| Err(format!("{key:?} is not active")))
    }
}

/// `PIN[,KEY=VALUE]...`; keys other than `active` go to `other`.
fn parse_output(
    text: &str,
    mut other: impl FnMut(&str, &str) -> Result<(), String>,
) -> Result<Output, String> {
    let mut parts = text.split(',');
    let pin = parts.next().unwrap_or_default();
    let pin = match pin.parse() {
        Ok(pin @ 0..=LAST_PIN) => pin,
        _ => {
            return Err(format!(
                "{pin:?} is not a BCM pin number from 0 to {LAST_PIN}, as `pinout` prints them"
            ));
        }
    };
    let mut active = Level::High;
    for part in parts {
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| format!("{part:?} is not of the form KEY=VALUE"))?;
        match (key, value) {
            ("active", "low") => active = Level::Low,
            ("active", "high") => active = Level::High,
            ("active", _) => return Err(format!("active={value} is neither low nor high")),
            _ => other(key, value)?,
        }
    }
    Ok(Output { pin, active })
}

fn parse_hold(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(hold) if hold.is_zero() || hold > LONGEST_HOLD => {
            Err(format!("hold={text} is not above 0 and at most a day"))
        }
        Ok(hold) => Ok(hold),
        Err(error) => Err(format!(
            "hold={text}: {error}; write it like 500ms, 2s or 1m"
        )),
    }
}

/// Whether rules and the status LED can be together. Labels may share a pin, which then is on for any of them; an error
/// names the pin that is asked for two things.
pub fn check(rules: &[Rule], status_led: Option<Output>) -> Result<(), String> {
    for (index, rule) in rules.iter().enumerate() {
        let Output { pin, active } = rule.output;
        let name = rule.subject.name();
        if status_led.is_some_and(|led| led.pin == pin) {
            return Err(format!(
                "pin {pin} is asked for {name} and for the status LED"
            ));
        }
        for other in rules[..index]
            .iter()
            .filter(|other| other.output.pin == pin)
        {
            if other.subject.name().eq_ignore_ascii_case(name) {
                return Err(format!("{name}={pin} is said twice"));
            }
            if other.output.active != active {
                return Err(format!("pin {pin} is to be active both low and high"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read() {
        let rule: Rule = "person=17".parse().unwrap();
        let high = |pin| Output {
            pin,
            active: Level::High,
        };
        assert_eq!(rule.subject, Subject::Label("person".into()));
        assert_eq!((rule.output, rule.hold), (high(17), DEFAULT_HOLD));
        let rule: Rule = "tench, Tinca tinca=0,active=low,hold=250ms"
            .parse()
            .unwrap();
        assert_eq!(rule.subject.name(), "tench, Tinca tinca");
        assert_eq!((rule.output.pin, rule.output.active), (0, Level::Low));
        assert_eq!(rule.hold, Duration::from_millis(250));
        for any in ["*=27", "any=27"] {
            let rule: Rule = any.parse().unwrap();
            assert_eq!((&rule.subject, rule.output), (&Subject::Any, high(27)));
            assert!(rule.subject.matches("whatever"));
        }
        assert_eq!("22".parse(), Ok(high(22)));
        assert_eq!(
            "22,active=low".parse::<Output>().unwrap().active,
            Level::Low
        );
    }

    #[test]
    fn wrong_rules_are_told_by_their_wrong_part() {
        for (text, word) in [
            ("17", "LABEL=PIN"),
            ("=17", "LABEL=PIN"),
            ("person=28", "28"),
            ("person=x", "BCM"),
            ("person=", "BCM"),
            ("person=17,hold", "\"hold\""),
            ("person=17,hold=2", "500ms"),
            ("person=17,hold=0s", "above 0"),
            ("person=17,hold=25h", "a day"),
            ("person=17,active=up", "active=up"),
            ("person=17,blink=1s", "blink"),
        ] {
            let reason = text.parse::<Rule>().unwrap_err();
            assert!(reason.contains(word), "{text}: {reason}");
        }
        assert!("17,hold=1s".parse::<Output>().unwrap_err().contains("hold"));
    }

    #[test]
    fn pins_asked_for_two_things_are_refused() {
        let rules = |texts: &[&str]| -> Vec<Rule> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let led = "17".parse().ok();
        assert_eq!(check(&rules(&["cat=17", "dog=17", "cat=4"]), None), Ok(()));
        for (texts, led, word) in [
            (&["cat=17", "Cat=17,hold=9s"][..], None, "twice"),
            (&["cat=17", "dog=17,active=low"], None, "both low and high"),
            (&["cat=4", "dog=17"], led, "status LED"),
        ] {
            let reason = check(&rules(texts), led).unwrap_err();
            assert!(reason.contains(word), "{reason}");
        }
    }
}
