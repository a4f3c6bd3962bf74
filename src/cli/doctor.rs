//! `eyas doctor`: what this machine has for eyas, and what stands in the way.

mod text;

use std::path::PathBuf;

use serde::Serialize;

use super::print;
use crate::error::{Error, Result};
use crate::kernels::{Isa, Kernels, check};
use crate::sink::gpio;
use crate::source::{self, Node, Offer, Size, Verdict};
use crate::telemetry::system::{System, SystemReading};

/// Looks at the CPU, the kernels, the cameras, the pins and the health of the machine.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Features of CPUs that kernels are written for, as `/proc/cpuinfo` names them.
const FEATURES: [&str; 6] = [
    "asimd",
    "asimddp",
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
];

/// Programs that sources start.
const PROGRAMS: [&str; 4] = ["rpicam-vid", "libcamera-vid", "setpriv", "ffmpeg"];

/// Everything that is printed.
#[derive(Debug, Serialize)]
struct Findings {
    version: &'static str,
    machine: Option<String>,
    os: &'static str,
    arch: &'static str,
    cpu: Cpu,
    health: SystemReading,
    programs: Vec<Program>,
    ribbon: Ribbon,
    nodes: Vec<NodeFindings>,
    gpio: Gpio,
}

#[derive(Debug, Serialize)]
struct Cpu {
    model: Option<String>,
    cores: Option<usize>,
    features: Vec<&'static str>,
    /// What kernels would be used, `EYAS_ISA` considered.
    isa: &'static str,
    self_test: Vec<SelfTest>,
}

/// An instruction set that the CPU has, its kernels compared with the reference.
#[derive(Debug, Serialize)]
struct SelfTest {
    isa: &'static str,
    cases: usize,
    mismatches: usize,
    /// The first mismatch.
    first: Option<String>,
}

#[derive(Debug, Serialize)]
struct Program {
    name: &'static str,
    path: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Ribbon {
    cameras: Vec<RibbonFindings>,
    /// Why there are none.
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct RibbonFindings {
    source: String,
    name: String,
}

#[derive(Debug, Serialize)]
struct Gpio {
    /// The board whose pins can be driven.
    board: Option<String>,
    /// Why there is none.
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct NodeFindings {
    path: PathBuf,
    name: Option<String>,
    driver: Option<String>,
    bus: Option<String>,
    /// The words of `--source`, if it can be read.
    source: Option<String>,
    /// Why it was skipped.
    reason: Option<String>,
    used_by: Vec<String>,
    modes: Vec<ModeFindings>,
}

#[derive(Debug, Serialize)]
struct ModeFindings {
    encoding: String,
    size: String,
    /// Frames a second, the most first.
    rates: Vec<f64>,
}

/// Looks and prints. An error if a kernel differs from the reference.
pub fn run(args: &Args) -> Result<()> {
    let findings = Findings::gather()?;
    if args.json {
        let json = serde_json::to_string_pretty(&findings).map_err(|error| {
            Error::Internal(format!("the findings do not become JSON: {error}"))
        })?;
        print(&format!("{json}\n"))?;
    } else {
        print(&text::render(&findings))?;
    }
    match findings
        .cpu
        .self_test
        .iter()
        .find(|test| test.mismatches > 0)
    {
        Some(test) => Err(Error::Internal(format!(
            "the {} kernels differ from the reference; EYAS_ISA=scalar avoids them",
            test.isa
        ))),
        None => Ok(()),
    }
}

impl Findings {
    fn gather() -> Result<Self> {
        let mut system = System::default();
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            machine: machine(),
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            cpu: Cpu::gather()?,
            health: system.read(),
            programs: PROGRAMS
                .map(|name| Program {
                    name,
                    path: source::find_program(name),
                })
                .into(),
            ribbon: Ribbon::of(source::ribbon_cameras()),
            nodes: source::nodes().iter().map(NodeFindings::of).collect(),
            gpio: Gpio::of(gpio::probe()),
        })
    }
}

/// What a board calls itself.
fn machine() -> Option<String> {
    let text = std::fs::read_to_string("/proc/device-tree/model").ok()?;
    Some(text.trim_matches('\0').trim().into())
}

impl Cpu {
    fn gather() -> Result<Self> {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Ok(Self {
            model: cpu_model(&info),
            cores: std::thread::available_parallelism().ok().map(Into::into),
            features: cpu_features(&info),
            isa: Kernels::best(None)?.isa.name(),
            self_test: Isa::ALL
                .into_iter()
                .filter_map(Kernels::of)
                .map(|kernels| SelfTest::of(&kernels))
                .collect(),
        })
    }
}

/// The value of the first line `key : value`.
fn cpu_value<'a>(info: &'a str, key: &str) -> Option<&'a str> {
    let lines = info.lines().filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(found, _)| found.trim() == key);
    values.next().map(|(_, value)| value.trim())
}

/// By name, or by the part number where Arm's cores have no name.
fn cpu_model(info: &str) -> Option<String> {
    if let Some(name) = cpu_value(info, "model name") {
        return Some(name.into());
    }
    let part = cpu_value(info, "CPU part")?;
    Some(match part {
        "0xd03" => "Cortex-A53".into(),
        "0xd08" => "Cortex-A72".into(),
        "0xd0b" => "Cortex-A76".into(),
        part => format!("Arm part {part}"),
    })
}

fn cpu_features(info: &str) -> Vec<&'static str> {
    let flags = cpu_value(info, "flags").or_else(|| cpu_value(info, "Features"));
    let flags: Vec<&str> = flags.unwrap_or_default().split_whitespace().collect();
    FEATURES
        .into_iter()
        .filter(|feature| flags.contains(feature))
        .collect()
}

impl SelfTest {
    fn of(kernels: &Kernels) -> Self {
        let report = check::check(kernels);
        Self {
            isa: kernels.isa.name(),
            cases: report.cases,
            mismatches: report.mismatches.len(),
            first: report.mismatches.first().map(|first| first.case.clone()),
        }
    }
}

impl Ribbon {
    fn of(listed: std::result::Result<Vec<source::RibbonCamera>, String>) -> Self {
        let (cameras, reason) = match listed {
            Ok(cameras) if cameras.is_empty() => (cameras, Some("none is attached".into())),
            Ok(cameras) => (cameras, None),
            Err(reason) => (Vec::new(), Some(reason)),
        };
        let cameras = cameras.into_iter().map(|camera| RibbonFindings {
            source: format!("csi:{}", camera.number),
            name: camera.name,
        });
        Self {
            cameras: cameras.collect(),
            reason,
        }
    }
}

impl Gpio {
    fn of(probed: std::result::Result<String, String>) -> Self {
        Self {
            reason: probed.as_ref().err().cloned(),
            board: probed.ok(),
        }
    }
}

impl NodeFindings {
    fn of(node: &Node) -> Self {
        let about = node.capability.as_ref();
        let (modes, reason) = match &node.verdict {
            Verdict::Camera(offers) => (offers.iter().map(ModeFindings::of).collect(), None),
            Verdict::Skipped(reason) => (Vec::new(), Some(reason.clone())),
        };
        Self {
            name: about.map(|about| about.card.clone()),
            driver: about.map(|about| about.driver.clone()),
            bus: about.map(|about| about.bus.clone()),
            source: node
                .is_camera()
                .then(|| format!("v4l2:{}", node.path.display())),
            reason,
            used_by: node.users.clone(),
            modes,
            path: node.path.clone(),
        }
    }
}

impl ModeFindings {
    fn of(offer: &Offer) -> Self {
        let mut rates: Vec<f64> = offer
            .intervals
            .iter()
            .map(|interval| (interval.rate() * 100.0).round() / 100.0)
            .collect();
        rates.sort_by(|a, b| b.total_cmp(a));
        rates.dedup();
        let size = match offer.size {
            Size::One([width, height]) => format!("{width}x{height}"),
            Size::Range { least, most, .. } => {
                format!("{}x{} to {}x{}", least[0], least[1], most[0], most[1])
            }
        };
        Self {
            encoding: offer.encoding.to_string(),
            size,
            rates,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Capability, Encoding, Interval};

    pub(super) fn node() -> Node {
        let offer = |encoding, size, rates: &[u32]| Offer {
            encoding,
            size,
            intervals: rates
                .iter()
                .map(|&denominator| Interval {
                    numerator: 2,
                    denominator,
                })
                .collect(),
        };
        Node {
            path: "/dev/video0".into(),
            capability: Some(Capability {
                driver: "uvcvideo".into(),
                card: "HD Webcam".into(),
                bus: "usb-1.2".into(),
                flags: 0x0420_0001,
            }),
            verdict: Verdict::Camera(vec![
                offer(Encoding::Yuyv, Size::One([640, 480]), &[15, 60, 60]),
                offer(
                    Encoding::Mjpeg,
                    Size::Range {
                        least: [32, 32],
                        most: [64, 48],
                        step: [2, 2],
                    },
                    &[],
                ),
            ]),
            users: vec!["zoom (process 7)".into()],
        }
    }

    #[test]
    fn nodes_are_told_with_their_modes() {
        let found = NodeFindings::of(&node());
        assert_eq!(found.source.as_deref(), Some("v4l2:/dev/video0"));
        assert_eq!(found.modes[0].rates, [30.0, 7.5]);
        assert_eq!(found.modes[1].size, "32x32 to 64x48");
    }

    #[test]
    fn cpus_are_named() {
        let x86 = "processor\t: 0\nmodel name\t: AMD X\nflags\t\t: fpu avx2 avx512f\n";
        assert_eq!(cpu_model(x86).as_deref(), Some("AMD X"));
        assert_eq!(cpu_features(x86), ["avx2", "avx512f"]);
        let pi5 = "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd0b\n";
        assert_eq!(cpu_model(pi5).as_deref(), Some("Cortex-A76"));
        assert_eq!(cpu_features(pi5), ["asimd", "asimddp"]);
        assert_eq!(cpu_model(""), None);
    }

    #[test]
    fn no_ribbon_camera_has_a_reason() {
        assert_eq!(
            Ribbon::of(Ok(Vec::new())).reason.as_deref(),
            Some("none is attached")
        );
        assert_eq!(
            Ribbon::of(Err("absent".into())).reason.as_deref(),
            Some("absent")
        );
    }
}
