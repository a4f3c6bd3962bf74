//! The live page over real connections, fed by a producer of scenes.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use eyas::detect::{BoundingBox, Detected, Detection, Threshold};
use eyas::pipeline::{Pipeline, Stop};
use eyas::polygon::Polygon;
use eyas::sink::Sink;
use eyas::sink::web::{About, WebSink};
use eyas::source::{Frame, FrameSource, Masks, Next, PixelFormat, YuvRange};
use eyas::telemetry::{SourceState, Telemetry};
use eyas::track::Watch;

const WIDTH: usize = 320;
const HEIGHT: usize = 240;
const FRAME_TIME: Duration = Duration::from_millis(10);

/// A live source of noise (which JPEG cannot make small), 100 frames a second.
struct Noise {
    index: u64,
    state: u64,
}

impl FrameSource for Noise {
    fn name(&self) -> &str {
        "noise"
    }

    fn next(&mut self) -> eyas::Result<Next> {
        std::thread::sleep(FRAME_TIME);
        self.index += 1;
        let data = std::iter::repeat_with(|| {
            self.state = self.state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (self.state >> 33) as u8
        });
        Ok(Next::Frame(Frame {
            width: WIDTH,
            height: HEIGHT,
            format: PixelFormat::Rgb,
            range: YuvRange::Full,
            data: data.take(WIDTH * HEIGHT * 3).collect(),
            index: self.index,
            captured: Instant::now(),
            timestamp: SystemTime::now(),
            source: "noise".into(),
        }))
    }

    fn is_live(&self) -> bool {
        true
    }
}

/// Other noise in the left half of each frame; the right half is always the same.
struct Secret(u64);

impl FrameSource for Secret {
    fn name(&self) -> &str {
        "secret"
    }

    fn next(&mut self) -> eyas::Result<Next> {
        let mut noise = Noise {
            index: self.0,
            state: self.0,
        };
        let Next::Frame(mut frame) = noise.next()? else {
            panic!("noise has no end")
        };
        for (at, value) in frame.data.iter_mut().enumerate() {
            if at / 3 % WIDTH >= WIDTH / 2 {
                *value = (at / 97) as u8;
            }
        }
        self.0 += 1;
        Ok(Next::Frame(frame))
    }

    fn is_live(&self) -> bool {
        true
    }
}

/// A pipeline whose detector finds one cat of confidence 0.5, if the threshold lets it.
struct Running {
    address: SocketAddr,
    threshold: Threshold,
    telemetry: Arc<Telemetry>,
    stop: Stop,
    thread: Option<JoinHandle<eyas::Result<()>>>,
}

impl Running {
    fn start() -> Self {
        Self::watch_source(Box::new(Noise { index: 0, state: 1 }), Masks::default())
    }

    fn watch_source(source: Box<dyn FrameSource>, masks: Masks) -> Self {
        let (threshold, telemetry) = (Threshold::new(0.4), Arc::new(Telemetry::default()));
        let web = web(&threshold, &telemetry);
        let address = web.address();
        let sinks: Vec<Box<dyn Sink>> = vec![Box::new(web)];
        let stop = Stop::new();
        let limit = threshold.clone();
        let pipeline = Pipeline {
            source,
            masks,
            watch: Watch::default(),
            detect: Box::new(move |_| {
                let mut detections = vec![cat()];
                detections.retain(|found| found.confidence >= limit.get());
                Ok(Detected {
                    classes: Vec::new(),
                    detections,
                    inference: Duration::from_millis(1),
                    ..Detected::default()
                })
            }),
            sinks,
            telemetry: telemetry.clone(),
            stop: stop.clone(),
            frame_limit: None,
        };
        let thread = std::thread::spawn(move || pipeline.run());
        let running = Self {
            address,
            threshold,
            telemetry,
            stop,
            thread: Some(thread),
        };
        wait_until("the first frame", || running.telemetry.inferred() > 0);
        running
    }

    fn ask(&self, request: &str) -> Answer {
        ask(self.address, request)
    }

    fn get(&self, path: &str) -> Answer {
        self.ask(&get(path))
    }

    fn watch(&self, path: &str) -> BufReader<TcpStream> {
        let mut stream = connect(self.address);
        stream.write_all(get(path).as_bytes()).unwrap();
        BufReader::new(stream)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.stop();
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
            assert!(TcpStream::connect(self.address).is_err(), "still listening");
        }
    }
}

fn web(threshold: &Threshold, telemetry: &Arc<Telemetry>) -> WebSink {
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let about = About {
        model: "test.tflite".into(),
        engine: "none".into(),
        source: "noise".into(),
    };
    WebSink::start(any_port, None, about, threshold.clone(), telemetry.clone()).unwrap()
}

fn cat() -> Detection {
    Detection {
        label: "cat".into(),
        class_id: 16,
        confidence: 0.5,
        bounding_box: BoundingBox {
            x_min: 20.0,
            y_min: 30.0,
            x_max: 200.0,
            y_max: 150.0,
        },
        track_id: None,
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

fn post(body: &str, headers: &str) -> String {
    format!(
        "POST /api/threshold HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < Duration::from_secs(10), "no {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// One request on a connection of its own.
fn ask(address: SocketAddr, request: &str) -> Answer {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let (status, head) = read_head(&mut reader);
    let mut body = Vec::new();
    reader.read_to_end(&mut body).unwrap();
    Answer { status, head, body }
}

/// Status and header lines in lower case.
fn read_head(reader: &mut impl BufRead) -> (u16, String) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "cut off: {head}");
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase())
}

/// Reads through the transfer coding of a stream without end.
struct Chunks<R> {
    reader: R,
    left: Vec<u8>,
}

impl<R: BufRead> Chunks<R> {
    fn new(mut reader: R) -> Self {
        let (status, head) = read_head(&mut reader);
        assert_eq!(status, 200, "{head}");
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        Self {
            reader,
            left: Vec::new(),
        }
    }

    fn more(&mut self) {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        let length = usize::from_str_radix(line.trim(), 16).unwrap();
        assert!(length > 0, "the stream ended");
        let mut chunk = vec![0; length + 2];
        self.reader.read_exact(&mut chunk).unwrap();
        self.left.extend_from_slice(&chunk[..length]);
    }

    fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.left.windows(end.len()).position(|w| w == end) {
                return self.left.drain(..at + end.len()).collect();
            }
            self.more();
        }
    }

    fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.left.len() < length {
            self.more();
        }
        self.left.drain(..length).collect()
    }

    /// The next picture of `/stream.mjpg`.
    fn picture(&mut self) -> Vec<u8> {
        let head = String::from_utf8(self.until(b"\r\n\r\n")).unwrap();
        assert!(head.contains("--eyas-frame\r\n"), "{head}");
        assert!(head.contains("Content-Type: image/jpeg"), "{head}");
        let length = head.split("Content-Length: ").nth(1).unwrap().trim();
        self.exactly(length.parse().unwrap())
    }
}

fn assert_is_picture(jpeg: &[u8]) {
    let picture = image::load_from_memory(jpeg).unwrap();
    let size = (picture.width() as usize, picture.height() as usize);
    assert_eq!(size, (WIDTH, HEIGHT));
}

#[test]
fn page_and_its_parts_are_self_contained() {
    let running = Running::start();
    for (path, kind) in [
        ("/", "text/html"),
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
    ] {
        let answer = running.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.head.contains(&format!("content-type: {kind}")));
        assert!(
            answer
                .head
                .contains("content-security-policy: default-src 'none'")
        );
        assert!(answer.head.contains("cache-control: no-store"));
        assert!(
            !answer.text().contains("://"),
            "{path} refers to another host"
        );
    }
    assert_eq!(running.get("/nowhere").status, 404);
    assert_eq!(running.ask(&get("/").replace("GET", "DELETE")).status, 415);
}

#[test]
fn stream_snapshot_and_events_show_scenes() {
    let running = Running::start();
    let mut stream = Chunks::new(running.watch("/stream.mjpg"));
    let first = stream.picture();
    assert_is_picture(&first);
    for _ in 0..5 {
        let next = stream.picture();
        assert_is_picture(&next);
        assert_ne!(first, next);
    }
    let snapshot = running.get("/snapshot.jpg");
    assert!(snapshot.head.contains("content-type: image/jpeg"));
    assert_is_picture(&snapshot.body);

    let mut events = Chunks::new(running.watch("/events"));
    let mut last = 0;
    for _ in 0..5 {
        let event = String::from_utf8(events.until(b"\n\n")).unwrap();
        let record: serde_json::Value =
            serde_json::from_str(event.trim().strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(record["detections"][0]["label"], "cat");
        let frame = record["frame"].as_u64().unwrap();
        assert!(frame > last);
        last = frame;
    }
}

/// The masked part is other noise in each frame: a pixel of it that got through would make the pictures differ.
#[test]
fn masked_pixels_reach_neither_stream_nor_snapshot() {
    let left = vec![[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]];
    let masks = Masks::new(vec![Polygon::new(left).unwrap()]);
    let running = Running::watch_source(Box::new(Secret(1)), masks.clone());
    let mut stream = Chunks::new(running.watch("/stream.mjpg"));
    let first = stream.picture();
    for _ in 0..5 {
        assert_eq!(stream.picture(), first);
    }
    assert_eq!(running.get("/snapshot.jpg").body, first);
    let picture = image::load_from_memory(&first).unwrap().into_luma8();
    // Away from the box, its tag, and the block of JPEG that the border of the mask runs through.
    for (x, y) in (0..152).flat_map(|x| (160..240).map(move |y| (x, y))) {
        assert!(picture.get_pixel(x, y).0[0] <= 2, "{x} {y}");
    }
    masks.set(Vec::new());
    let mut pictures = (0..50).map(|_| stream.picture());
    assert!(
        pictures.any(|picture| picture != first),
        "the test sees nothing"
    );
}

#[test]
fn status_metrics_and_health_tell_of_the_run() {
    let running = Running::start();
    wait_until("scene", || running.get("/snapshot.jpg").status == 200);
    let status: serde_json::Value =
        serde_json::from_slice(&running.get("/api/status").body).unwrap();
    assert_eq!(status["model"], "test.tflite");
    assert_eq!(status["source"]["state"], "live");
    assert_eq!(status["confidence"].as_f64().unwrap() as f32, 0.4);
    assert_eq!(status["scene"]["width"], WIDTH);
    assert!(status["inferred"].as_u64().unwrap() > 0);
    running.telemetry.set_source(SourceState::NoSignal {
        reason: "unplugged".into(),
    });
    assert!(
        running
            .get("/metrics")
            .text()
            .contains("\neyas_frames_inferred_total ")
    );
    assert_eq!(running.get("/healthz").status, 200);
}

#[test]
fn slider_changes_what_is_found_and_strangers_may_not_move_it() {
    let running = Running::start();
    let json = "Content-Type: application/json\r\n";
    let moved = running.ask(&post(r#"{"confidence":0.75}"#, json));
    assert_eq!(
        (moved.status, moved.text()),
        (200, r#"{"confidence":0.75}"#)
    );
    assert_eq!(running.threshold.get(), 0.75);
    wait_until("scene without cats", || {
        let status = running.get("/api/status");
        status.text().contains(r#""detections":[]"#)
    });
    for (body, headers, refusal) in [
        (r#"{"confidence":2}"#, json, 400),
        (r#"{"confidence":null}"#, json, 400),
        (r#"{"confidence":0.1,"more":1}"#, json, 400),
        ("{", json, 400),
        ("", json, 400),
        (r#"{"confidence":0.1}"#, "", 415),
        (r#"{"confidence":0.1}"#, "Content-Type: text/plain\r\n", 415),
        (
            r#"{"confidence":0.1}"#,
            "Content-Type: application/json\r\nOrigin: http://evil.example\r\n",
            403,
        ),
        (
            r#"{"confidence":0.1}"#,
            "Content-Type: application/json\r\nSec-Fetch-Site: cross-site\r\n",
            403,
        ),
    ] {
        assert_eq!(
            running.ask(&post(body, headers)).status,
            refusal,
            "{body} {headers}"
        );
    }
    let long = format!(r#"{{"confidence":0.1{}}}"#, " ".repeat(5000));
    assert_eq!(running.ask(&post(&long, json)).status, 413);
    assert_eq!(running.threshold.get(), 0.75);
}

#[test]
fn foreign_hosts_and_broken_requests_are_refused() {
    let running = Running::start();
    let foreign = get("/api/status").replace("localhost", "evil.example");
    assert_eq!(running.ask(&foreign).status, 421);
    assert_eq!(running.ask("GET / HTTP/1.0\r\n\r\n").status, 421);
    assert_eq!(running.ask("nonsense\r\n\r\n").status, 400);
    let long = get("/").replace(
        "Connection",
        &format!("X: {}\r\nConnection", "x".repeat(40_000)),
    );
    let mut stream = connect(running.address);
    // The server may close before it has read all.
    let _ = stream.write_all(long.as_bytes());
    let mut answer = [0; 12];
    match stream.read_exact(&mut answer) {
        Ok(()) => assert_eq!(&answer, b"HTTP/1.1 431"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    let many = get("/").replace(
        "Connection",
        &format!("{}Connection", "X: x\r\n".repeat(100)),
    );
    assert_eq!(running.ask(&many).status, 431);
    assert_eq!(running.get("/healthz").status, 200);
}

#[test]
fn forty_clients_are_served_or_told_to_come_later() {
    let running = Running::start();
    wait_until("scene", || running.get("/snapshot.jpg").status == 200);
    let mut clients: Vec<_> = (0..40).map(|_| running.watch("/stream.mjpg")).collect();
    let statuses: Vec<u16> = clients
        .iter_mut()
        .map(|client| read_head(client).0)
        .collect();
    let served = statuses.iter().filter(|&&status| status == 200).count();
    let refused = statuses.iter().filter(|&&status| status == 503).count();
    assert_eq!((served, refused), (32, 8));
    assert_eq!(running.get("/healthz").status, 200);
    drop(clients);
    wait_until("room after they left", || {
        let mut client = running.watch("/stream.mjpg");
        read_head(&mut client).0 == 200
    });
}

#[test]
fn stalled_clients_do_not_slow_detection() {
    let running = Running::start();
    let inferred_in_a_second = || {
        let before = running.telemetry.inferred();
        std::thread::sleep(Duration::from_secs(1));
        running.telemetry.inferred() - before
    };
    let mut reader = Chunks::new(running.watch("/stream.mjpg"));
    reader.picture();
    let follow = running.threshold.clone();
    let lively = std::thread::spawn(move || {
        let mut pictures = 0;
        while follow.get() > 0.0 {
            reader.picture();
            pictures += 1;
        }
        pictures
    });
    let alone = inferred_in_a_second();
    let stalled: Vec<_> = (0..8).map(|_| running.watch("/stream.mjpg")).collect();
    let beside_stalled = inferred_in_a_second();
    running.threshold.set(0.0);
    let pictures = lively.join().unwrap();
    assert!(
        beside_stalled * 10 >= alone * 8,
        "{alone} frames a second alone, {beside_stalled} beside stalled clients"
    );
    assert!(pictures > 20, "the lively client saw {pictures} pictures");
    drop(stalled);
}

#[test]
fn pictures_are_encoded_only_while_somebody_watches() {
    let (threshold, telemetry) = (Threshold::new(0.4), Arc::new(Telemetry::default()));
    let mut sink = web(&threshold, &telemetry);
    assert_eq!(ask(sink.address(), &get("/snapshot.jpg")).status, 503);
    let mut noise = Noise { index: 0, state: 7 };
    let Next::Frame(mut frame) = noise.next().unwrap() else {
        panic!("no frame")
    };
    // No JPEG can hold it: encoding would fail.
    (frame.width, frame.height) = (70_000, 1);
    frame.data = vec![0; 70_000 * 3];
    let scene = Arc::new(eyas::sink::Scene::new(
        Arc::new(frame),
        vec![],
        Duration::ZERO,
    ));
    sink.consume(&scene).unwrap();
    assert_eq!(ask(sink.address(), &get("/snapshot.jpg")).status, 500);
    let mut stream = connect(sink.address());
    stream.write_all(get("/stream.mjpg").as_bytes()).unwrap();
    read_head(&mut BufReader::new(stream.try_clone().unwrap()));
    assert!(sink.consume(&scene).is_err());
}

#[test]
fn wrong_addresses_are_explained() {
    let start = |listen: SocketAddr| {
        let started = WebSink::start(
            listen,
            None,
            About::default(),
            Threshold::new(0.5),
            Arc::default(),
        );
        started.err().unwrap()
    };
    let error = start(SocketAddr::from(([0, 0, 0, 0], 0)));
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
    assert!(error.to_string().contains("--token-file"), "{error}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = start(taken.local_addr().unwrap());
    assert!(error.to_string().contains("another port"), "{error}");
}

#[test]
fn slow_request_heads_are_cut_off() {
    let running = Running::start();
    let mut stream = connect(running.address);
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: loc").unwrap();
    let start = Instant::now();
    let mut rest = Vec::new();
    // Closed with or without an answer.
    let _ = stream.read_to_end(&mut rest);
    let elapsed = start.elapsed();
    assert!(
        (Duration::from_secs(5)..Duration::from_secs(15)).contains(&elapsed),
        "{elapsed:?}"
    );
}
