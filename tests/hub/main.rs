//! Public models, pulled from a server on loopback.

mod server;

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use eyas::model::hub::{Cache, Existing, Hub, Patience, Registry, Sha256};
use server::{Reply, Server};

/// Large enough to come in many pieces.
const SIZE: usize = 300_000;

/// Bytes that repeat only after the file ends, so that a part in the wrong place shows.
fn content() -> Vec<u8> {
    (0..SIZE as u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256::of(bytes).unwrap().0
}

/// A list with the model `m`, which is `content` at `url`. `more` are further lines of its table.
fn list(url: &str, content: &[u8], more: &str) -> String {
    format!(
        "[m]\ndescription = 'a model'\ntask = 'detect'\nlicence = 'MIT'\nsource = 'https://example.org'\nurl = '{url}'\n\
         size = {}\nsha256 = '{}'\n{more}\n",
        content.len(),
        sha256(content)
    )
}

/// A hub with an empty cache.
struct Scratch {
    hub: Hub,
    folder: tempfile::TempDir,
}

impl Scratch {
    fn new(list: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hub = Hub {
            registry: Registry::parse(list, "test.toml").unwrap(),
            cache: Cache::new(folder.path().join("models")),
            patience: Patience {
                connect: Duration::from_secs(5),
                read: Duration::from_secs(5),
                failures: 3,
                pause: Duration::from_millis(1),
            },
        };
        Self { hub, folder }
    }

    fn with(url: &str) -> Self {
        Self::new(&list(url, &content(), ""))
    }

    fn pull(&self) -> eyas::Result<PathBuf> {
        self.pull_over(Existing::Check)
    }

    fn pull_over(&self, existing: Existing) -> eyas::Result<PathBuf> {
        let entry = self.hub.registry.find("m").unwrap();
        self.hub.pull(entry, existing, |_| ())
    }

    /// What is wrong, and that no file has the name of a model.
    fn refusal(&self) -> String {
        let error = self.pull().unwrap_err();
        assert_eq!(error.exit_code(), 1);
        let names = self.names();
        assert!(
            names
                .iter()
                .all(|name| name.ends_with(".part") || name.ends_with(".lock")),
            "{names:?}"
        );
        assert_eq!(self.hub.path(self.hub.registry.find("m").unwrap()), None);
        error.to_string()
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path().join("models"));
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<String> = entries
            .map(|entries| {
                entries
                    .map(|entry| name(entry).into_string().unwrap())
                    .collect()
            })
            .unwrap_or_default();
        names.sort();
        names
    }

    /// What an interrupted download would have left.
    fn leave(&self, part: &[u8], etag: &str) {
        let target = self.hub.cache.path("m", &sha256(&content()), "tflite");
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::write(target.with_extension("tflite.part"), part).unwrap();
        std::fs::write(target.with_extension("tflite.lock"), etag).unwrap();
    }
}

fn offsets(server: &Server) -> Vec<Option<usize>> {
    server
        .requests()
        .iter()
        .map(server::Request::offset)
        .collect()
}

#[test]
fn a_whole_file_is_pulled_once() {
    let server = Server::start(|_, _| Reply::file(&content()));
    let scratch = Scratch::with(&server.url("/m.tflite"));
    let entry = scratch.hub.registry.find("m").unwrap();
    let mut seen = Vec::new();
    let path = scratch
        .hub
        .pull(entry, Existing::Check, |progress| seen.push(progress.done))
        .unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), content());
    assert!(seen.is_sorted() && seen.last() == Some(&(SIZE as u64)));
    assert_eq!(scratch.hub.path(entry).as_ref(), Some(&path));
    assert_eq!(scratch.pull().unwrap(), path);
    assert_eq!(server.requests().len(), 1);
    scratch.pull_over(Existing::Replace).unwrap();
    assert_eq!(server.requests().len(), 2);
    let request = &server.requests()[0];
    assert_eq!(request.line, "GET /m.tflite HTTP/1.1");
    assert!(request.header("user-agent").unwrap().starts_with("eyas/"));
    assert!(
        !scratch.names().iter().any(|name| name.ends_with(".part")),
        "{:?}",
        scratch.names()
    );
}

#[test]
fn a_damaged_file_is_pulled_again() {
    let server = Server::start(|_, _| Reply::file(&content()));
    let scratch = Scratch::with(&server.url("/m.tflite"));
    let path = scratch.pull().unwrap();
    std::fs::write(&path, b"damaged").unwrap();
    scratch.pull().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), content());
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_broken_connection_goes_on_where_it_broke() {
    let server = Server::start(|before, request| match before {
        0 => Reply::Cut(100_000, Box::new(Reply::file(&content()))),
        1 => Reply::Cut(100_000, Box::new(Reply::part(request, &content()))),
        _ => Reply::part(request, &content()),
    });
    let scratch = Scratch::with(&server.url("/m.tflite"));
    assert_eq!(std::fs::read(scratch.pull().unwrap()).unwrap(), content());
    assert_eq!(offsets(&server), [None, Some(100_000), Some(200_000)]);
    assert_eq!(server.requests()[1].header("if-range"), Some("\"v1\""));
}

#[test]
fn a_later_pull_goes_on_where_the_last_one_ended() {
    let server = Server::start(|_, request| Reply::part(request, &content()));
    let scratch = Scratch::with(&server.url("/m.tflite"));
    scratch.leave(&content()[..1234], "\"v1\"");
    assert_eq!(std::fs::read(scratch.pull().unwrap()).unwrap(), content());
    assert_eq!(offsets(&server), [Some(1234)]);
}

#[test]
fn what_belongs_to_another_version_is_dropped() {
    let server = Server::start(|_, request| Reply::part(request, &content()));
    let scratch = Scratch::with(&server.url("/m.tflite"));
    scratch.leave(b"another version", "\"v0\"");
    assert_eq!(std::fs::read(scratch.pull().unwrap()).unwrap(), content());
    assert_eq!(server.requests().len(), 1);
    // Without a tag only the hash can tell.
    let scratch = Scratch::with(&server.url("/m.tflite"));
    scratch.leave(b"another version", "");
    assert_eq!(std::fs::read(scratch.pull().unwrap()).unwrap(), content());
    assert_eq!(offsets(&server)[1..], [Some(15), None]);
}

#[test]
fn a_server_without_ranges_begins_again() {
    let server = Server::start(|_, _| Reply::file(&content()));
    let scratch = Scratch::with(&server.url("/m.tflite"));
    scratch.leave(&content()[..1234], "\"v1\"");
    assert_eq!(std::fs::read(scratch.pull().unwrap()).unwrap(), content());
    assert_eq!(offsets(&server), [Some(1234)]);
}

#[test]
fn a_part_that_is_too_long_is_dropped() {
    for length in [SIZE, SIZE + 1] {
        let server = Server::start(|_, request| Reply::part(request, &content()));
        let scratch = Scratch::with(&server.url("/m.tflite"));
        scratch.leave(&vec![0; length], "\"v1\"");
        assert_eq!(std::fs::read(scratch.pull().unwrap()).unwrap(), content());
        assert_eq!(offsets(&server), [None]);
    }
}

#[test]
fn a_range_that_was_not_asked_for_is_dropped() {
    let server = Server::start(|before, _| match before {
        0 => Reply::Answer(
            "206 Partial Content",
            vec!["content-range: bytes 5-9/300000".into()],
            vec![0; 5],
        ),
        _ => Reply::file(&content()),
    });
    let scratch = Scratch::with(&server.url("/m.tflite"));
    scratch.leave(&content()[..1234], "\"v1\"");
    assert_eq!(std::fs::read(scratch.pull().unwrap()).unwrap(), content());
    assert_eq!(offsets(&server), [Some(1234), None]);
}

#[test]
fn a_server_that_breaks_at_the_same_byte_is_given_up() {
    let server = Server::start(|_, _| Reply::Cut(1000, Box::new(Reply::file(&content()))));
    let scratch = Scratch::with(&server.url("/m.tflite"));
    let reason = scratch.refusal();
    assert!(reason.contains("broke off after 1000 bytes"), "{reason}");
    // One that got somewhere, and three that did not.
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_tampered_file_is_refused() {
    let server = Server::start(|_, _| {
        let mut bytes = content();
        bytes[SIZE / 2] ^= 1;
        Reply::file(&bytes)
    });
    let scratch = Scratch::with(&server.url("/m.tflite"));
    let reason = scratch.refusal();
    assert!(
        reason.starts_with("m: ") && reason.contains("SHA-256"),
        "{reason}"
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_file_of_another_size_is_refused() {
    for size in [SIZE - 1, SIZE + 1] {
        let server = Server::start(move |_, _| Reply::file(&vec![1; size]));
        let reason = Scratch::with(&server.url("/m.tflite")).refusal();
        assert!(reason.contains(&format!("has {size} bytes")), "{reason}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn no_more_bytes_are_kept_than_the_list_says() {
    let server = Server::start(|_, _| {
        let head = vec!["transfer-encoding: chunked".into()];
        let mut body = Vec::new();
        for _ in 0..40 {
            body.extend(b"4000\r\n");
            body.extend([7; 0x4000]);
            body.extend(b"\r\n");
        }
        Reply::Answer("200 OK", head, body)
    });
    let scratch = Scratch::with(&server.url("/m.tflite"));
    let reason = scratch.refusal();
    assert!(
        reason.contains("sends more than the 300000 bytes"),
        "{reason}"
    );
}

#[test]
fn passing_failures_are_tried_again_and_lasting_ones_are_not() {
    for status in [
        "500 Internal Server Error",
        "503 Service Unavailable",
        "429 Too Many Requests",
    ] {
        let server = Server::start(move |before, _| match before {
            0 | 1 => Reply::status(status),
            _ => Reply::file(&content()),
        });
        Scratch::with(&server.url("/m.tflite")).pull().unwrap();
        assert_eq!(server.requests().len(), 3, "{status}");
    }
    let server = Server::start(|_, _| Reply::status("502 Bad Gateway"));
    let reason = Scratch::with(&server.url("/m.tflite")).refusal();
    assert!(
        reason.contains("502") && reason.contains("tried 3 times"),
        "{reason}"
    );
    for (status, word) in [
        ("404 Not Found", "not there any more"),
        ("403 Forbidden", "HTTPS_PROXY"),
    ] {
        let server = Server::start(move |_, _| Reply::status(status));
        let reason = Scratch::with(&server.url("/m.tflite")).refusal();
        assert!(reason.contains(word), "{reason}");
        assert_eq!(server.requests().len(), 1, "{status}");
    }
}

#[test]
fn a_server_that_falls_silent_is_left() {
    for (sent, reason) in [(0, "after 0 bytes"), (1000, "after 1000 bytes")] {
        let server = Server::start(move |before, request| match before {
            0 => Reply::Hang(sent, Box::new(Reply::file(&content()))),
            _ => Reply::part(request, &content()),
        });
        let mut scratch = Scratch::with(&server.url("/m.tflite"));
        scratch.hub.patience.read = Duration::from_millis(100);
        scratch.hub.patience.failures = 1;
        let said = scratch.refusal();
        assert!(
            said.contains(reason) && said.contains("tried 1 times"),
            "{said}"
        );
        scratch.hub.patience.read = Duration::from_secs(5);
        assert_eq!(std::fs::read(scratch.pull().unwrap()).unwrap(), content());
    }
}

#[test]
fn redirects_are_followed_so_far_and_no_further() {
    let server = Server::start(|_, request| match request.line.as_str() {
        "GET /m.tflite HTTP/1.1" => Reply::redirect("/elsewhere/m"),
        "GET /elsewhere/m HTTP/1.1" => Reply::redirect("again"),
        "GET /elsewhere/again HTTP/1.1" => Reply::file(&content()),
        _ => Reply::redirect("/loop.tflite"),
    });
    Scratch::with(&server.url("/m.tflite")).pull().unwrap();
    assert_eq!(server.requests().len(), 3);
    let reason = Scratch::with(&server.url("/loop.tflite")).refusal();
    assert!(reason.contains("more than 5 times"), "{reason}");
    assert_eq!(server.requests().len(), 9);
    let server = Server::start(|_, _| Reply::redirect("http://example.org/m.tflite"));
    let reason = Scratch::with(&server.url("/m.tflite")).refusal();
    assert!(
        reason.contains("http://example.org/m.tflite is no https address"),
        "{reason}"
    );
}

#[test]
fn a_machine_without_network_is_told_so() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let reason = Scratch::with(&format!("http://{nobody}/m.tflite")).refusal();
    assert!(
        reason.contains("cannot be reached") && reason.contains("tried 3 times"),
        "{reason}"
    );
}

fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        writer
            .start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn zipped(server: &Server) -> Scratch {
    Scratch::new(&list(
        &server.url("/m.zip"),
        &content(),
        "member = 'm.tflite'",
    ))
}

#[test]
fn a_model_comes_out_of_its_archive() {
    let archive = zip(&[("labelmap.txt", b"cat"), ("m.tflite", &content())]);
    let server = Server::start(move |before, request| match before {
        0 => Reply::Cut(1000, Box::new(Reply::file(&archive))),
        _ => Reply::part(request, &archive),
    });
    let scratch = zipped(&server);
    let path = scratch.pull().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), content());
    assert_eq!(path.extension().unwrap(), "tflite");
    assert_eq!(offsets(&server), [None, Some(1000)]);
    assert_eq!(scratch.names().len(), 2, "{:?}", scratch.names());
}

#[test]
fn archives_without_the_model_are_refused() {
    let mut tampered = content();
    tampered[7] ^= 1;
    for (archive, word) in [
        (
            zip(&[("other.tflite", &content())]),
            "no zip archive that holds m.tflite",
        ),
        (content(), "no zip archive"),
        (zip(&[("m.tflite", &tampered)]), "SHA-256"),
        (
            zip(&[("m.tflite", &[0; 2 * SIZE])]),
            "300001 bytes instead of 300000",
        ),
    ] {
        let server = Server::start(move |_, _| Reply::file(&archive));
        let reason = zipped(&server).refusal();
        assert!(reason.contains(word), "{reason}");
    }
}

#[test]
fn two_pulls_at_once_take_turns() {
    let server = Server::start(|_, request| {
        std::thread::sleep(Duration::from_millis(30));
        Reply::part(request, &content())
    });
    let scratch = Scratch::with(&server.url("/m.tflite"));
    let paths: Vec<PathBuf> = std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| scratch.pull().unwrap()))
            .collect();
        pulls.into_iter().map(|pull| pull.join().unwrap()).collect()
    });
    assert!(
        paths
            .iter()
            .all(|path| std::fs::read(path).unwrap() == content())
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn labels_of_their_own_are_pulled_with_the_model() {
    let model = std::fs::read(demo("colours.tflite")).unwrap();
    let labels = b"rot\ngruen\nblau\n";
    let served = model.clone();
    let server = Server::start(move |_, request| match request.line.contains("labels") {
        true => Reply::file(labels),
        false => Reply::file(&served),
    });
    let table = format!(
        "labels = {{ url = '{}', size = {}, sha256 = '{}' }}",
        server.url("/labels.txt"),
        labels.len(),
        sha256(labels)
    );
    let scratch = Scratch::new(&list(&server.url("/m.tflite"), &model, &table));
    scratch.pull().unwrap();
    let loaded = scratch
        .hub
        .load(scratch.hub.registry.find("m").unwrap())
        .unwrap();
    assert_eq!(loaded.name, "m");
    assert_eq!(
        loaded.metadata.labels.as_deref(),
        Some("rot\ngruen\nblau\n")
    );
}

fn demo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/demo")
        .join(name)
}

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

#[test]
fn lists_that_cannot_be_used_are_refused_by_their_place() {
    let good = list("https://example.org/m.tflite", &content(), "");
    Registry::parse(&good, "l.toml").unwrap();
    for (from, to, word) in [
        ("[m]", "[M]", "\"M\""),
        ("[m]", "['../m']", "a-z"),
        ("[m]", "[codes]", "built-in"),
        (
            "https://example.org/m",
            "http://example.org/m",
            "no https address",
        ),
        ("m.tflite", "m.zip", "member"),
        ("size = 300000", "size = 0", "size 0"),
        ("size = 300000", "size = 999999999999", "size 999999999999"),
        ("sha256 = '", "sha256 = 'x", "64 hexadecimal"),
        ("task = 'detect'", "task = 'guess'", "guess"),
        ("task = 'detect'", "task = 'detect'\ncolour = 1", "colour"),
        (
            "task = 'detect'",
            "task = 'detect'\nlabels = 'voc'",
            "labels: \"voc\" is not one of embedded, coco, codes",
        ),
        ("licence = 'MIT'\n", "", "licence"),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good);
        let error = Registry::parse(&text, "l.toml").unwrap_err().to_string();
        assert!(
            error.starts_with("l.toml: ") && error.contains(word),
            "{word}: {error}"
        );
    }
}

#[test]
fn names_near_a_wrong_one_are_suggested() {
    let registry = Registry::built_in().unwrap();
    assert_eq!(
        registry.near("coco-ssd-mobilnet-v2")[0],
        "coco-ssd-mobilenet-v2"
    );
    assert_eq!(registry.near("Codes"), ["codes"]);
    assert!(registry.near("birds").contains(&"mobilenet-v2-224-birds"));
    assert!(registry.near("zzz").is_empty());
}

/// Every file of the list that lies in `../shared` is what the list says, and runs.
#[test]
fn the_list_of_models_is_true() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models");
    let registry = Registry::built_in().unwrap();
    if !shared.exists() {
        eprintln!(
            "SKIPPED: ../shared is absent, so the sizes and hashes of models.toml were not checked"
        );
        return;
    }
    let mut checked = Vec::new();
    for file in std::fs::read_dir(shared)
        .unwrap()
        .map(|file| file.unwrap().path())
    {
        if file.is_dir() {
            continue;
        }
        let bytes = std::fs::read(&file).unwrap();
        let hash = sha256(&bytes);
        for entry in registry
            .entries()
            .iter()
            .filter(|entry| entry.model.sha256 == hash)
        {
            assert_eq!(entry.model.size, bytes.len() as u64, "{}", entry.name);
            let model = eyas::model::load(&bytes, &entry.name).unwrap();
            let embedded = entry.labels == eyas::model::hub::LabelSource::Embedded;
            assert_eq!(model.metadata.labels.is_some(), embedded, "{}", entry.name);
            checked.push(entry.name.as_str());
        }
    }
    let unknown: Vec<&str> = registry
        .entries()
        .iter()
        .map(|entry| entry.name.as_str())
        .filter(|name| !checked.contains(name))
        .collect();
    assert_eq!(
        unknown,
        ["coco-ssd-mobilenet-v2"],
        "the only one that ../shared does not hold"
    );
}
