//! Pins of the real binary, through rppal: `fake_pi.c` puts a file in the place of the registers of a Raspberry Pi.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::program::{Program, command, get, wait_until, with_model, with_scene};

/// What tells one board from another: how the kernel names it, and where its registers are.
struct Board {
    revision: &'static str,
    device: &'static str,
    /// Bytes of the device; 32-bit words in it that are not 0 before eyas comes.
    size: usize,
    before: &'static [(usize, u32)],
    /// Byte offsets of the words that set and clear pins, bit by bit.
    set: usize,
    clear: usize,
    /// A word, and what it is masked by and holds if pin 17 is an output.
    output: (usize, u32, u32),
}

/// BCM2711 ARM Peripherals, 5.2: GPSET0, GPCLR0, and the bits of pin 17 in GPFSEL1.
const PI_4: Board = Board {
    revision: "c03111",
    device: "dev/gpiomem",
    size: 4096,
    before: &[],
    set: 0x1c,
    clear: 0x28,
    output: (0x04, 0b111 << 21, 0b001 << 21),
};

/// RP1 Peripherals, 3: SYS_RIO0 OUT and OE by their atomic set and clear aliases; pin 17 has no function before.
const PI_5: Board = Board {
    revision: "c04170",
    device: "dev/gpiomem0",
    size: 0x30000,
    before: &[(17 * 8 + 4, 31)],
    set: 0x12000,
    clear: 0x13000,
    output: (0x12004, u32::MAX, 1 << 17),
};

/// A folder with what makes a machine a Raspberry Pi, or with nothing.
struct FakePi(tempfile::TempDir);

impl FakePi {
    /// A machine that is none. `None`, with a word about it, where no C compiler makes its library.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon/fake_pi.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(folder.path().join("fake_pi.so"))
            .arg(source)
            .arg("-ldl")
            .status();
        if !compiled.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: without a C compiler no Raspberry Pi can be imitated");
            return None;
        }
        Some(Self(folder))
    }

    fn with_board(self, board: &Board) -> Self {
        self.write_revision(board);
        self.write("dev/gpiochip0", b"");
        let mut registers = vec![0; board.size];
        for &(at, word) in board.before {
            registers[at..][..4].copy_from_slice(&word.to_le_bytes());
        }
        self.write(board.device, &registers);
        self
    }

    fn write_revision(&self, board: &Board) {
        let text = format!("Revision\t: {}\n", board.revision);
        self.write("proc/cpuinfo", text.as_bytes());
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("makes it");
        std::fs::write(path, bytes).expect("writes");
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn register(&self, board: &Board, offset: usize) -> u32 {
        let bytes = std::fs::read(self.path(board.device)).expect("reads");
        u32::from_le_bytes(bytes[offset..][..4].try_into().expect("4 bytes"))
    }

    /// Forgets what was written to a register.
    fn forget(&self, board: &Board, offset: usize) {
        let mut options = std::fs::File::options();
        let file = options.write(true).open(self.path(board.device));
        let written = file.expect("opens").write_all_at(&[0; 4], offset as u64);
        written.expect("writes");
    }

    fn start(&self, flags: &[&str]) -> Program {
        let mut command = with_scene(with_model(command()), "50");
        command
            .env("LD_PRELOAD", self.path("fake_pi.so"))
            .env("FAKE_PI", self.0.path())
            .args(flags);
        Program::start(command)
    }
}

fn status(program: &Program) -> Value {
    let answer = get(program.address(), "/api/status", "");
    let body = answer.split("\r\n\r\n").nth(1).expect("a body");
    serde_json::from_str(body).expect("JSON")
}

fn a_pin_follows_its_label(board: &Board) {
    let Some(pi) = FakePi::new().map(|pi| pi.with_board(board)) else {
        return;
    };
    let mut program = pi.start(&["--gpio", "red=17,hold=1h"]);
    wait_until("pin 17 on", || pi.register(board, board.set) == 1 << 17);
    let is_output = || {
        let (at, mask, value) = board.output;
        pi.register(board, at) & mask == value
    };
    assert!(is_output());
    wait_until("a status that tells it", || {
        status(&program)["gpio"]["outputs"][0]["active"] == true
    });
    let metrics = get(program.address(), "/metrics", "");
    assert!(
        metrics.contains("\neyas_gpio_active{pin=\"17\",label=\"red\"} 1\n"),
        "{metrics}"
    );
    pi.forget(board, board.clear);
    program.signal("TERM");
    assert!(program.wait().success());
    assert_eq!(pi.register(board, board.clear), 1 << 17);
    assert!(is_output(), "it floats");
    assert!(!program.log().contains("was at work"), "{}", program.log());
}

#[test]
fn a_pin_follows_its_label_and_is_off_after_the_end() {
    a_pin_follows_its_label(&PI_4);
    a_pin_follows_its_label(&PI_5);
}

#[test]
fn the_status_led_is_active_low_if_it_is_wired_so() {
    let Some(pi) = FakePi::new().map(|pi| pi.with_board(&PI_4)) else {
        return;
    };
    let mut program = pi.start(&["--status-led", "12,active=low"]);
    for _ in 0..2 {
        pi.forget(&PI_4, PI_4.clear);
        wait_until("a flash", || pi.register(&PI_4, PI_4.clear) == 1 << 12);
        pi.forget(&PI_4, PI_4.set);
        wait_until("its end", || pi.register(&PI_4, PI_4.set) == 1 << 12);
    }
    program.signal("INT");
    assert!(program.wait().success());
    assert_eq!(pi.register(&PI_4, PI_4.set), 1 << 12);
}

#[test]
fn without_pins_all_else_runs_and_says_why() {
    let Some(pi) = FakePi::new() else {
        return;
    };
    let program = pi.start(&["--gpio", "red=17", "--status-led", "27"]);
    let line = program.line("no GPIO pin is driven");
    assert!(line.contains("not a Raspberry Pi"), "{line}");
    wait_until("frames", || status(&program)["inferred"].as_u64() > Some(3));
    let gpio = &status(&program)["gpio"];
    assert!(
        gpio["error"]
            .as_str()
            .expect("a reason")
            .contains("not a Raspberry Pi")
    );
    assert_eq!(gpio["outputs"][0]["active"], false);
    let metrics = get(program.address(), "/metrics", "");
    assert!(metrics.contains("\neyas_gpio_up 0\n"), "{metrics}");
}

#[test]
fn a_board_in_a_container_without_its_devices_is_told_so() {
    let Some(pi) = FakePi::new() else {
        return;
    };
    pi.write_revision(&PI_4);
    let program = pi.start(&["--gpio", "any=17"]);
    let line = program.line("no GPIO pin is driven");
    assert!(
        line.contains("/dev/gpiomem") && line.contains("container"),
        "{line}"
    );
}

#[test]
fn labels_that_the_model_lacks_are_wrong_usage() {
    let mut command = with_scene(with_model(command()), "50");
    command.args(["--gpio", "reed=17"]);
    let mut program = Program::start(command);
    assert_eq!(program.wait().code(), Some(2));
    let line = program.line("error: ");
    assert!(line.contains("\"reed\"; did you mean red"), "{line}");
}
