//! Downloads, good and bad.

use std::io::{Cursor, Write};
use std::path::PathBuf;
use std::time::Duration;

use eyas::model::hub::{Cache, Existing, Hub, Patience, Registry};

use super::server::{Reply, Request, Server};
use super::{SIZE, content, demo, list, sha256};

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
    server.requests().iter().map(Request::offset).collect()
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
