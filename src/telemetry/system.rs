//! Readings of the process and the machine, as far as the system has them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Clock ticks a second in `/proc`: Linux fixes `USER_HZ` at 100 on every architecture that eyas builds for.
const TICKS_PER_SECOND: f64 = 100.0;
/// How often `vcgencmd` is started at most.
const VCGENCMD_INTERVAL: Duration = Duration::from_secs(10);
const VCGENCMD_TIMEOUT: Duration = Duration::from_millis(500);

/// One look at the machine. `None` where the system does not say.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SystemReading {
    /// CPU time of this process since the last look, in percent of one core.
    pub process_cpu_percent: Option<f64>,
    /// Resident memory of this process.
    pub rss_bytes: Option<u64>,
    /// The most that `rss_bytes` has been.
    pub peak_rss_bytes: Option<u64>,
    /// Busy time of the machine since the last look, in percent of all cores.
    pub cpu_percent: Option<f64>,
    pub memory_total_bytes: Option<u64>,
    pub memory_available_bytes: Option<u64>,
    /// What this process has had written to disks.
    pub written_bytes: Option<u64>,
    pub temperature_celsius: Option<f64>,
    pub throttling: Option<Throttling>,
}

/// The flags of the Raspberry Pi's firmware (`vcgencmd get_throttled`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Throttling {
    pub now: ThrottleFlags,
    /// What has been since the machine was started.
    pub since_boot: ThrottleFlags,
}

/// Why the firmware slows the processor down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ThrottleFlags {
    pub under_voltage: bool,
    pub frequency_capped: bool,
    pub throttled: bool,
    pub soft_temperature_limit: bool,
}

impl Throttling {
    /// Bits 0 to 3 are the present state, bits 16 to 19 the same since boot (Raspberry Pi documentation, `vcgencmd`).
    pub fn from_bits(bits: u64) -> Self {
        Self {
            now: ThrottleFlags::from_bits(bits),
            since_boot: ThrottleFlags::from_bits(bits >> 16),
        }
    }
}

impl ThrottleFlags {
    fn from_bits(bits: u64) -> Self {
        Self {
            under_voltage: bits & 1 != 0,
            frequency_capped: bits & 2 != 0,
            throttled: bits & 4 != 0,
            soft_temperature_limit: bits & 8 != 0,
        }
    }

    /// The flags by name.
    pub fn named(self) -> [(&'static str, bool); 4] {
        [
            ("under_voltage", self.under_voltage),
            ("frequency_capped", self.frequency_capped),
            ("throttled", self.throttled),
            ("soft_temperature_limit", self.soft_temperature_limit),
        ]
    }

    /// The flags that are set, in words: `under voltage, throttled`. Empty if none is.
    pub fn words(self) -> String {
        let set = self.named().into_iter().filter(|(_, set)| *set);
        let names: Vec<_> = set.map(|(name, _)| name.replace('_', " ")).collect();
        names.join(", ")
    }
}

/// Looks at `/proc` and `/sys`, and remembers the last look for percentages.
#[derive(Debug)]
pub struct System {
    root: PathBuf,
    last_process: Option<(Instant, f64)>,
    last_machine: Option<(u64, u64)>,
    throttled_file: Option<PathBuf>,
    vcgencmd: Vcgencmd,
}

#[derive(Debug)]
enum Vcgencmd {
    Untried,
    /// It is not there, gave no answer in time, or must not be asked.
    Absent,
    Answered {
        at: Instant,
        bits: u64,
    },
}

impl Default for System {
    fn default() -> Self {
        Self {
            vcgencmd: Vcgencmd::Untried,
            ..Self::at(Path::new("/"))
        }
    }
}

impl System {
    /// Reads the files of `proc` and `sys` under `root`, and asks no program.
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.into(),
            last_process: None,
            last_machine: None,
            throttled_file: find_throttled_file(&root.join("sys/devices/platform")),
            vcgencmd: Vcgencmd::Absent,
        }
    }

    fn text(&self, path: &str) -> Option<String> {
        read_text(self.root.join(path))
    }

    /// A reading. May take half a second where `vcgencmd` hangs.
    pub fn read(&mut self) -> SystemReading {
        let status = self.text("proc/self/status");
        let memory = self.text("proc/meminfo");
        SystemReading {
            process_cpu_percent: self.process_cpu(),
            rss_bytes: status.as_deref().and_then(|text| kib_of(text, "VmRSS:")),
            peak_rss_bytes: status.as_deref().and_then(|text| kib_of(text, "VmHWM:")),
            cpu_percent: self.machine_cpu(),
            memory_total_bytes: memory.as_deref().and_then(|text| kib_of(text, "MemTotal:")),
            memory_available_bytes: memory
                .as_deref()
                .and_then(|text| kib_of(text, "MemAvailable:")),
            written_bytes: self
                .text("proc/self/io")
                .as_deref()
                .and_then(|text| number_of(text, "write_bytes:")),
            temperature_celsius: self
                .text("sys/class/thermal/thermal_zone0/temp")
                .as_deref()
                .and_then(parse_temperature),
            throttling: self.throttled_bits().map(Throttling::from_bits),
        }
    }

    fn process_cpu(&mut self) -> Option<f64> {
        let seconds = process_cpu_seconds(&self.text("proc/self/stat")?)?;
        let now = Instant::now();
        let (then, before) = self.last_process.replace((now, seconds))?;
        let elapsed = (now - then).as_secs_f64();
        (elapsed > 0.0).then(|| 100.0 * (seconds - before).max(0.0) / elapsed)
    }

    fn machine_cpu(&mut self) -> Option<f64> {
        let (busy, total) = machine_ticks(&self.text("proc/stat")?)?;
        let (busy_before, total_before) = self.last_machine.replace((busy, total))?;
        let elapsed = total.saturating_sub(total_before);
        (elapsed > 0).then(|| 100.0 * busy.saturating_sub(busy_before) as f64 / elapsed as f64)
    }

    fn throttled_bits(&mut self) -> Option<u64> {
        if let Some(file) = &self.throttled_file {
            let text = read_text(file)?;
            return u64::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok();
        }
        match self.vcgencmd {
            Vcgencmd::Absent => return None,
            Vcgencmd::Answered { at, bits } if at.elapsed() < VCGENCMD_INTERVAL => {
                return Some(bits);
            }
            Vcgencmd::Answered { .. } | Vcgencmd::Untried => {}
        }
        let bits = ask_vcgencmd();
        self.vcgencmd = match bits {
            Some(bits) => Vcgencmd::Answered {
                at: Instant::now(),
                bits,
            },
            None => Vcgencmd::Absent,
        };
        bits
    }
}

/// The most resident memory that this process has had, in bytes.
pub fn peak_rss_bytes() -> Option<u64> {
    kib_of(&read_text("/proc/self/status")?, "VmHWM:")
}

fn read_text(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// The value of a `Key:   123 kB` line, in bytes.
fn kib_of(text: &str, key: &str) -> Option<u64> {
    number_of(text, key)?.checked_mul(1024)
}

/// The number of a line that begins with `key`.
fn number_of(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time of `/proc/self/stat`. The process's name stands in parentheses and may hold spaces.
fn process_cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat
        .get(stat.rfind(')')? + 1..)?
        .split_whitespace()
        .skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// Busy and total ticks of all cores, from the first line of `/proc/stat`.
fn machine_ticks(stat: &str) -> Option<(u64, u64)> {
    let mut fields = stat.lines().next()?.split_whitespace();
    if fields.next() != Some("cpu") {
        return None;
    }
    // user, nice, system, idle, iowait, irq, softirq, steal; guest time is part of user time.
    let ticks: Vec<u64> = fields.take(8).map_while(|f| f.parse().ok()).collect();
    let idle = ticks.get(3)? + ticks.get(4).copied().unwrap_or(0);
    let total: u64 = ticks.iter().sum();
    Some((total.saturating_sub(idle), total))
}

fn parse_temperature(text: &str) -> Option<f64> {
    let millis: f64 = text.trim().parse().ok()?;
    (-100_000.0..=200_000.0)
        .contains(&millis)
        .then_some(millis / 1000.0)
}

/// `soc/soc:firmware/get_throttled` under the platform devices, whatever the two folders are called.
fn find_throttled_file(platform: &Path) -> Option<PathBuf> {
    let bus_folders = std::fs::read_dir(platform).ok()?.flatten();
    for bus in bus_folders.filter(|entry| entry.file_name().to_string_lossy().starts_with("soc")) {
        let Ok(devices) = std::fs::read_dir(bus.path()) else {
            continue;
        };
        for device in devices.flatten() {
            let file = device.path().join("get_throttled");
            if device.file_name().to_string_lossy().contains("firmware") && file.exists() {
                return Some(file);
            }
        }
    }
    None
}

fn ask_vcgencmd() -> Option<u64> {
    let mut child = Command::new("vcgencmd")
        .arg("get_throttled")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let deadline = Instant::now() + VCGENCMD_TIMEOUT;
    while child.try_wait().ok()?.is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().ok()?;
    parse_vcgencmd(&String::from_utf8_lossy(&output.stdout))
}

/// `throttled=0x50000`
fn parse_vcgencmd(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim().strip_prefix("throttled=0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_texts_are_read() {
        let stat =
            "42 (a b) c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 100 1000 100 1 0";
        assert_eq!(process_cpu_seconds(stat), Some(3.0));
        assert_eq!(
            machine_ticks("cpu  10 0 20 60 10 0 0 0 5 0\ncpu0 1 1"),
            Some((30, 100))
        );
        assert_eq!(
            kib_of("VmHWM:\t  20 kB\nVmRSS:\t 10 kB\n", "VmRSS:"),
            Some(10_240)
        );
        assert_eq!(
            number_of("wchar: 9\nwrite_bytes: 4096\n", "write_bytes:"),
            Some(4096)
        );
        assert_eq!(parse_temperature("48312\n"), Some(48.312));
        assert_eq!(parse_temperature("-274000"), None);
        for broken in ["", "x", "1 (", "cpu"] {
            assert_eq!(process_cpu_seconds(broken), None);
            assert_eq!(machine_ticks(broken), None);
            assert_eq!(kib_of(broken, "VmRSS:"), None);
        }
    }

    #[test]
    fn throttling_flags_are_told_apart() {
        let bits = parse_vcgencmd("throttled=0x50005\n").unwrap();
        let flags = Throttling::from_bits(bits);
        assert!(flags.now.under_voltage && flags.now.throttled);
        assert!(!flags.now.frequency_capped && !flags.now.soft_temperature_limit);
        assert_eq!(flags.now, flags.since_boot);
        assert_eq!(flags.now.words(), "under voltage, throttled");
        let past = Throttling::from_bits(0xa_0000);
        assert_eq!(past.now.words(), "");
        assert_eq!(
            past.since_boot.words(),
            "frequency capped, soft temperature limit"
        );
        assert_eq!(parse_vcgencmd("error=1 error_msg=\"\""), None);
    }

    #[test]
    fn throttled_file_is_found_where_it_lies() {
        let platform = tempfile::tempdir().unwrap();
        assert_eq!(find_throttled_file(platform.path()), None);
        let folder = platform.path().join("soc@107c000000/soc:firmware");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("get_throttled"), "0\n").unwrap();
        assert_eq!(
            find_throttled_file(platform.path()),
            Some(folder.join("get_throttled"))
        );
    }

    #[test]
    fn a_machine_is_read_from_the_files_under_its_root() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let file = root.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        assert_eq!(System::at(root.path()).read(), SystemReading::default());
        write("proc/self/status", "VmHWM: 30 kB\nVmRSS: 20 kB\n");
        write("proc/self/io", "write_bytes: 8192\n");
        write("proc/meminfo", "MemTotal: 4 kB\nMemAvailable: 2 kB\n");
        write("sys/class/thermal/thermal_zone0/temp", "81500\n");
        write(
            "sys/devices/platform/soc/soc:firmware/get_throttled",
            "e0008\n",
        );
        let reading = System::at(root.path()).read();
        assert_eq!(
            reading,
            SystemReading {
                rss_bytes: Some(20_480),
                peak_rss_bytes: Some(30_720),
                memory_total_bytes: Some(4096),
                memory_available_bytes: Some(2048),
                written_bytes: Some(8192),
                temperature_celsius: Some(81.5),
                throttling: Some(Throttling::from_bits(0xe_0008)),
                ..SystemReading::default()
            }
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory_and_uses_cpu() {
        let mut system = System::default();
        assert_eq!(system.read().process_cpu_percent, None);
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(60) {
            std::hint::black_box(start);
        }
        let reading = system.read();
        assert!(reading.rss_bytes.unwrap() > 1 << 20);
        assert!(reading.peak_rss_bytes >= reading.rss_bytes);
        assert!(reading.process_cpu_percent.unwrap() > 0.0);
    }
}
