//! `--display` on a real X server that has no screen.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use image::{ImageFormat, RgbImage};

use crate::program::{Program, command, demo, wait_until, with_model};

const SCREEN: [u32; 2] = [800, 600];

struct Desktop {
    server: Child,
    display: String,
}

impl Desktop {
    /// `None`, with a word about it, where a program for it is missing.
    fn start() -> Option<Self> {
        for program in ["Xvfb", "xdotool", "import"] {
            let probe = Command::new("sh")
                .args(["-c", &format!("command -v {program}")])
                .stdout(Stdio::null())
                .status();
            if !probe.is_ok_and(|status| status.success()) {
                eprintln!("SKIPPED: without {program} no window can be seen");
                return None;
            }
        }
        let [width, height] = SCREEN;
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-nolisten", "tcp", "-screen", "0"])
            .arg(format!("{width}x{height}x24"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let mut number = String::new();
        let told = server.stdout.take().expect("a pipe");
        BufReader::new(told)
            .read_line(&mut number)
            .expect("a number");
        Some(Self {
            server,
            display: format!(":{}", number.trim()),
        })
    }

    fn run(&self, flags: &[&str]) -> Program {
        let mut command = with_model(command());
        command.args(flags).arg("--display").stdin(Stdio::piped());
        command.env("DISPLAY", &self.display);
        Program::start(command)
    }

    fn screenshot(&self) -> RgbImage {
        let taken = Command::new("import")
            .args(["-display", &self.display, "-window", "root", "png:-"])
            .output()
            .expect("a screenshot");
        let png = image::load_from_memory_with_format(&taken.stdout, ImageFormat::Png);
        png.expect("a picture").into_rgb8()
    }

    fn xdotool(&self, words: &str) -> bool {
        let mut command = Command::new("xdotool");
        command.args(words.split(' ')).env("DISPLAY", &self.display);
        let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        done.expect("xdotool runs").success()
    }

    /// Waits for the window, and types there.
    fn type_key(&self, key: &str) {
        wait_until("window", || {
            self.xdotool("search --name ^eyas windowfocus --sync")
        });
        assert!(self.xdotool(&format!("key {key}")));
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// How far apart two pictures are, in levels of a channel.
fn distance(a: &RgbImage, b: &RgbImage) -> f64 {
    let differences = a
        .iter()
        .zip(b.iter())
        .map(|(a, b)| u64::from(a.abs_diff(*b)));
    differences.sum::<u64>() as f64 / a.len() as f64
}

fn part(image: &RgbImage, [x, y, width, height]: [u32; 4]) -> RgbImage {
    image::imageops::crop_imm(image, x, y, width, height).to_image()
}

#[test]
fn the_window_shows_the_picture_with_boxes_and_q_ends() {
    let Some(desktop) = Desktop::start() else {
        return;
    };
    let file = demo("scene/00.jpg");
    let source = file.to_str().expect("text");
    let mut program = desktop.run(&["--source", source, "--loop", "--fps", "20"]);
    let picture = image::open(&file).expect("a picture").into_rgb8();
    let (width, height) = picture.dimensions();
    let mut shown = RgbImage::new(width, height);
    wait_until("picture", || {
        shown = part(&desktop.screenshot(), [0, 0, width, height]);
        distance(&shown, &picture) < 12.0
    });
    assert!(distance(&shown, &picture) > 0.5, "nothing is drawn on it");

    assert!(desktop.xdotool("search --name ^eyas windowsize 700 300"));
    let wide = 300 * width / height;
    let bar = (700 - wide) / 2;
    let scaled = image::imageops::resize(&picture, wide, 300, image::imageops::Triangle);
    wait_until("letterboxed picture", || {
        let screen = desktop.screenshot();
        let black = RgbImage::new(bar, 300);
        distance(&part(&screen, [0, 0, bar, 300]), &black) < 0.1
            && distance(&part(&screen, [bar, 0, wide, 300]), &scaled) < 15.0
    });

    desktop.type_key("q");
    assert!(program.wait().success());
    assert!(program.line(" frames in ").contains("inference"));
}

#[test]
fn without_signal_the_picture_is_dim_and_escape_ends() {
    let Some(desktop) = Desktop::start() else {
        return;
    };
    let mut program = desktop.run(&["--source", "-"]);
    let mut pipe = program.stdin();
    let frame = [b"FRAME\n", &[200; 320 * 240][..]].concat();
    pipe.write_all(b"YUV4MPEG2 W320 H240 F10:1 Cmono\n")
        .expect("writes");
    pipe.write_all(&frame).expect("writes");
    let level = |desktop: &Desktop| desktop.screenshot().get_pixel(5, 5).0[0];
    wait_until("dim picture", || (50..90).contains(&level(&desktop)));
    wait_until("bright picture", || {
        pipe.write_all(&frame).expect("writes");
        level(&desktop) > 180
    });
    desktop.type_key("Escape");
    assert!(program.wait().success());
}

#[test]
fn the_window_closes_with_the_last_frame() {
    let Some(desktop) = Desktop::start() else {
        return;
    };
    let scene = demo("scene");
    let source = scene.to_str().expect("text");
    let mut program = desktop.run(&["--source", source, "--loop", "--fps", "20", "--frames", "5"]);
    assert!(program.wait().success());
    program.line("5 frames in ");
}

#[test]
fn without_a_desktop_the_error_says_what_to_do() {
    for display in [None, Some(":4711")] {
        let mut command = with_model(command());
        command.args(["--source", "demo", "--display"]);
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        command.envs(display.map(|display| ("DISPLAY", display)));
        let mut program = Program::start(command);
        assert_eq!(program.wait().code(), Some(2));
        let line = program.line("error: --display");
        assert!(
            line.contains("DISPLAY=:0") && line.contains("live page"),
            "{line}"
        );
    }
}
