//! Who gets into the live page of the real binary.

use std::path::PathBuf;
use std::process::Command;

use crate::program::{Program, command, get, with_model, with_scene};

const TOKEN: &str = "open-sesame-0123";

fn watching() -> Command {
    with_scene(with_model(command()), "50")
}

fn status(answer: &str) -> u16 {
    let code = answer.split(' ').nth(1).expect(answer);
    code.parse().expect(answer)
}

fn token_file(folder: &tempfile::TempDir) -> PathBuf {
    let file = folder.path().join("eyas-token");
    std::fs::write(&file, format!("{TOKEN}\n")).expect("writes");
    file
}

#[test]
fn a_token_closes_everything_but_health() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = watching();
    command.arg("--token-file").arg(token_file(&folder));
    let program = Program::start(command);
    let address = program.address();
    let asked = |target: &str, headers: &str| status(&get(address, target, headers));
    for path in [
        "/",
        "/page.js",
        "/stream.mjpg",
        "/snapshot.jpg",
        "/events",
        "/api/status",
        "/api/threshold",
        "/metrics",
        "/nowhere",
    ] {
        assert_eq!(asked(path, ""), 401, "{path}");
        assert_eq!(
            asked(path, "Authorization: Bearer open-sesame-0124\r\n"),
            401,
            "{path}"
        );
    }
    assert_eq!(asked("/healthz", ""), 200);
    assert_eq!(
        asked("/api/status", &format!("Authorization: Bearer {TOKEN}\r\n")),
        200
    );
    assert_eq!(asked(&format!("/api/status?token={TOKEN}"), ""), 401);
    let refused = get(address, "/metrics", "");
    assert!(
        refused.to_lowercase().contains("www-authenticate: bearer"),
        "{refused}"
    );
    assert!(get(address, "/", "").contains("<form action=\"/\">"));
    assert!(!program.log().contains(TOKEN), "{}", program.log());
}

#[test]
fn the_page_takes_the_token_once_and_a_cookie_from_then_on() {
    let folder = tempfile::tempdir().expect("a folder");
    token_file(&folder);
    let mut command = watching();
    command.env("CREDENTIALS_DIRECTORY", folder.path());
    let program = Program::start(command);
    let address = program.address();
    let answer = get(address, &format!("/?token={TOKEN}"), "");
    assert_eq!(status(&answer), 303);
    let header = |name: &str| {
        let of_name = |line: &str| {
            Some(line.split_once(": ")?.1.to_owned())
                .filter(|_| line.to_lowercase().starts_with(name))
        };
        answer.lines().find_map(of_name).expect(&answer)
    };
    assert_eq!(header("location"), "/");
    let cookie = header("set-cookie");
    assert!(
        cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict"),
        "{cookie}"
    );
    let pair = cookie.split(';').next().expect("a pair");
    let with_cookie = format!("Cookie: {pair}\r\n");
    let page = get(address, "/", &with_cookie);
    assert!(
        status(&page) == 200 && page.contains("id=\"picture\""),
        "{page}"
    );
    assert_eq!(status(&get(address, "/metrics", &with_cookie)), 200);
    let wrong = get(address, "/?token=open-sesame-0124", &with_cookie);
    assert!(
        status(&wrong) == 401 && !wrong.to_lowercase().contains("set-cookie"),
        "{wrong}"
    );
    // The cookie does not open what a foreign site asks the browser for.
    let rebound = with_cookie.replace("Cookie", "X-Forwarded-Host: evil.example\r\nCookie");
    assert_eq!(
        status(&get(address, "http://evil.example/metrics", &rebound)),
        421
    );
}

#[test]
fn no_token_is_asked_for_on_this_machine_if_none_is_configured() {
    let program = Program::start(watching());
    assert_eq!(status(&get(program.address(), "/api/status", "")), 200);
    assert!(!program.log().contains("token"), "{}", program.log());
}

#[test]
fn a_useless_token_file_is_wrong_usage() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weak");
    std::fs::write(&file, "1234").expect("writes");
    let mut command = watching();
    command.arg("--token-file").arg(&file);
    let mut program = Program::start(command);
    assert_eq!(program.wait().code(), Some(2));
    let line = program.line("error: ");
    assert!(
        line.contains("weak: not a token") && !line.contains("1234"),
        "{line}"
    );
}
