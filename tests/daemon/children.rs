//! ffmpeg under the real binary, and what is left when one of the two is killed.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::program::{Program, command, status, wait_until, with_model};

/// Serves grey Y4M pictures to everybody over HTTP: so many, then silence on an open connection.
fn serve(frames: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A client that has gone ends its thread.
            std::thread::spawn(move || send(&stream, frames));
        }
    });
    address
}

fn send(mut stream: &TcpStream, frames: usize) -> std::io::Result<()> {
    let request = BufReader::new(stream).lines().map_while(Result::ok);
    request.take_while(|line| !line.is_empty()).for_each(|_| ());
    stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: video/x-yuv4mpeg\r\n\r\n")?;
    stream.write_all(b"YUV4MPEG2 W64 H48 F20:1 C420jpeg\n")?;
    let frame = [&b"FRAME\n"[..], &[128; 64 * 48 * 3 / 2]].concat();
    for _ in 0..frames {
        stream.write_all(&frame)?;
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(600));
    Ok(())
}

/// The daemon on a stream of so many frames; `None`, said aloud, where a program is missing.
fn watch(frames: usize) -> Option<Program> {
    for (program, option) in [("ffmpeg", "-version"), ("setpriv", "--version")] {
        let mut asked = Command::new(program);
        if asked.arg(option).stdout(Stdio::null()).status().is_err() {
            eprintln!("SKIPPED: {program} is not installed");
            return None;
        }
    }
    let mut command = with_model(command());
    command.args(["--source", &format!("http://{}/a.y4m", serve(frames))]);
    Some(Program::start(command))
}

fn inferred(program: &Program) -> u64 {
    status(program)["inferred"].as_u64().expect("a number")
}

/// What `/proc` tells of a process behind its name: state, parent and so on. `None` once it has been reaped.
fn stat(process: &Path) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(process.join("stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().map(String::from).collect())
}

/// The process numbers of the programs that a daemon has started.
fn children(program: &Program) -> Vec<String> {
    let parent = program.pid().to_string();
    let processes = std::fs::read_dir("/proc").expect("a folder").flatten();
    processes
        .filter(|process| stat(&process.path()).is_some_and(|stat| stat[1] == parent))
        .map(|process| process.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn a_killed_ffmpeg_is_a_state_and_is_replaced() {
    let Some(program) = watch(usize::MAX) else {
        return;
    };
    wait_until("first frame", || inferred(&program) > 0);
    let killed = children(&program);
    assert_eq!(killed.len(), 1);
    let kill = Command::new("sh")
        .args(["-c", &format!("kill -9 {}", killed[0])])
        .status();
    assert!(kill.expect("a shell").success());
    program.line("no signal: ffmpeg was killed (signal 9)");
    let before = inferred(&program);
    wait_until("frames of another", || inferred(&program) > before + 3);
    assert_ne!(children(&program), killed);
}

#[test]
fn a_killed_eyas_takes_a_silent_ffmpeg_with_it() {
    let Some(mut program) = watch(20) else {
        return;
    };
    wait_until("first frame", || inferred(&program) > 0);
    let left = children(&program);
    assert_eq!(left.len(), 1);
    program.signal("KILL");
    program.wait();
    // Whoever adopts it may be slow to reap it.
    let process = Path::new("/proc").join(&left[0]);
    wait_until("end of ffmpeg", || {
        stat(&process).is_none_or(|stat| stat[0] == "Z")
    });
}
