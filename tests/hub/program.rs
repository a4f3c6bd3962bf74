//! The real binary.

use std::process::{Command, Output, Stdio};

use super::server::{Reply, Server};
use super::{content, demo, list};

/// The real binary with the list and the cache in a folder.
struct Program {
    folder: tempfile::TempDir,
}

impl Program {
    fn new(list: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("list.toml"), list).unwrap();
        Self { folder }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eyas"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("EYAS_MODELS", "list.toml")
            .env("EYAS_CACHE", self.folder.path().join("cache"))
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        answer(self.command(arguments).output().unwrap())
    }
}

fn answer(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn the_program_lists_pulls_and_uses_models_by_name() {
    let model = std::fs::read(demo("colours.tflite")).unwrap();
    let served = model.clone();
    let server = Server::start(move |_, _| Reply::file(&served));
    let program = Program::new(&list(&server.url("/m.tflite"), &model, "labels = 'codes'"));
    let picture = demo("scene/00.jpg");
    let picture = picture.to_str().unwrap();

    let (code, stdout, _) = program.run(&["models", "list"]);
    assert_eq!(code, Some(0));
    assert!(
        stdout
            .lines()
            .any(|line| line.starts_with("codes ") && line.contains("built in")),
        "{stdout}"
    );
    assert!(
        stdout
            .lines()
            .any(|line| line.starts_with("m ") && line.contains("not pulled")),
        "{stdout}"
    );
    let (code, stdout, stderr) = program.run(&["models", "path", "m"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("eyas models pull m"), "{stderr}");

    let (code, stdout, stderr) = program.run(&["detect", "-m", "m", "--json", picture]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stdout.contains("\"label\":\"qr_code\""),
        "the labels of the list: {stdout}"
    );
    assert_eq!(stderr.matches("pulling m (").count(), 1, "{stderr}");
    let (code, stdout, _) = program.run(&["models", "path", "m"]);
    assert_eq!(
        (code, std::fs::read(stdout.trim()).unwrap()),
        (Some(0), model)
    );

    let labels = demo("colours.txt");
    let (_, stdout, stderr) = program.run(&[
        "detect",
        "-m",
        "m",
        "-l",
        labels.to_str().unwrap(),
        "--json",
        picture,
    ]);
    assert!(stdout.contains("\"label\":\"red\""), "{stdout}");
    assert!(!stderr.contains("pulling"), "{stderr}");
    let (_, stdout, _) = program.run(&["inspect", "m"]);
    assert!(stdout.starts_with("m\n"), "{stdout}");
    let (_, stdout, _) = program.run(&["bench", "-m", "m", "--runs", "1", "--json"]);
    assert!(stdout.starts_with("{\"model\":\"m\","), "{stdout}");
    assert_eq!(server.requests().len(), 1);

    let (code, stdout, _) = program.run(&["models", "pull", "codes", "m", "--force"]);
    assert_eq!((code, stdout.lines().count()), (Some(0), 1));
    assert_eq!(server.requests().len(), 2);
    let (_, stdout, _) = program.run(&["models", "list", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(rows[1]["state"], "pulled");
    assert!(rows[1]["path"].is_string() && rows[0]["path"].is_null());
}

#[test]
fn names_and_files_are_told_apart() {
    let program = Program::new(&list("https://example.org/m.tflite", &content(), ""));
    let (code, _, stderr) = program.run(&["inspect", "coeds"]);
    assert_eq!(code, Some(2));
    assert!(
        stderr.contains("did you mean codes?") && stderr.contains("eyas models list"),
        "{stderr}"
    );
    let (code, _, stderr) = program.run(&["inspect", "coeds.tflite"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("cannot read coeds.tflite"), "{stderr}");
    // An existing file wins over a name.
    std::fs::write(program.folder.path().join("m"), b"no model").unwrap();
    let (code, _, stderr) = program.run(&["inspect", "m"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("error: m: "), "{stderr}");
    let (code, _, stderr) = program.run(&["models", "path", "codes"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("-m codes"), "{stderr}");
}

#[test]
fn proxies_of_the_environment_are_asked_and_their_exceptions_kept() {
    let proxy = Server::start(|_, _| Reply::status("403 Forbidden"));
    let program = Program::new(&list("https://models.invalid/m.tflite", &content(), ""));
    let pull = |exceptions: &str| {
        let mut command = program.command(&["models", "pull", "m"]);
        for other in ["ALL_PROXY", "all_proxy", "https_proxy", "no_proxy"] {
            command.env_remove(other);
        }
        command
            .env("HTTPS_PROXY", proxy.url(""))
            .env("NO_PROXY", exceptions);
        answer(command.output().unwrap())
    };
    let (code, _, stderr) = pull("");
    assert_eq!(code, Some(1));
    assert!(stderr.contains("HTTPS_PROXY"), "{stderr}");
    assert_eq!(
        proxy.requests()[0].line,
        "CONNECT models.invalid:443 HTTP/1.1"
    );
    let (code, _, stderr) = pull("models.invalid");
    assert_eq!((code, proxy.requests().len()), (Some(1), 1));
    assert!(stderr.contains("models.invalid"), "{stderr}");
}
