//! The watching of a camera, with one that does as it is told.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::device::{Device, Layout};
use super::*;
use crate::source::YuvRange;

/// After which a silent worker is given up in tests of that.
const IMPATIENT: Duration = Duration::from_millis(20);

/// What the camera is to do next. If nobody tells any more, it fails.
enum Order {
    Shoot(u8),
    Cut,
    Fail(Failure),
    Panic,
}

/// Cameras that wait for orders: each opening takes the next of them.
#[derive(Clone, Default)]
struct Drawer {
    waiting: Arc<Mutex<Vec<Receiver<Order>>>>,
    attempts: Arc<AtomicUsize>,
    opened: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
}

struct Obedient {
    orders: Receiver<Order>,
    closed: Arc<AtomicUsize>,
}

impl Drop for Obedient {
    fn drop(&mut self) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }
}

impl Device for Obedient {
    fn shoot(&mut self) -> std::result::Result<Shot, Failure> {
        let layout = Layout {
            encoding: Encoding::Grey,
            width: 2,
            height: 1,
            stride: 2,
            range: YuvRange::Full,
        };
        let shot = |data| Ok(Shot::aged(layout, data, Duration::from_secs(1)));
        match self.orders.recv() {
            Ok(Order::Shoot(grey)) => shot(vec![grey; 2]),
            Ok(Order::Cut) => shot(vec![0]),
            Ok(Order::Fail(failure)) => Err(failure),
            Ok(Order::Panic) => panic!("a library that panics, as the test ordered"),
            Err(_) => Err(Failure::Passing("unplugged".into())),
        }
    }
}

impl Drawer {
    /// One more camera that can be opened.
    fn add(&self) -> Sender<Order> {
        let (sender, orders) = channel();
        self.waiting.lock().unwrap().insert(0, orders);
        sender
    }

    fn source(&self) -> CameraSource {
        let drawer = self.clone();
        let open = move || {
            drawer.attempts.fetch_add(1, Ordering::SeqCst);
            let orders = drawer.waiting.lock().unwrap().pop();
            let orders = orders.ok_or_else(|| Failure::Passing("there is no camera".into()))?;
            drawer.opened.fetch_add(1, Ordering::SeqCst);
            let closed = drawer.closed.clone();
            Ok(Box::new(Obedient { orders, closed }) as Box<dyn Device>)
        };
        let moment = Duration::from_millis(2);
        let patience = Patience {
            look: moment,
            // A machine that is busy holds no camera up in the tests that are not about it.
            stall: Duration::from_secs(3600),
            retry: [moment, moment * 2],
        };
        CameraSource::with("camera", Arc::new(open), [640, 480], patience)
    }
}

/// The next frame, and every reason for its absence before it.
fn frame(source: &mut CameraSource) -> (Frame, Vec<String>) {
    let mut reasons = Vec::new();
    loop {
        match source.next().unwrap() {
            Next::Frame(frame) => return (frame, reasons),
            Next::NoSignal(reason) => reasons.push(reason),
            Next::End => panic!("a camera does not end"),
        }
    }
}

/// Looks until the source says such a reason.
fn until(source: &mut CameraSource, words: &str) {
    while !matches!(source.next().unwrap(), Next::NoSignal(reason) if reason.contains(words)) {}
}

#[test]
fn frames_carry_the_time_of_their_capture() {
    let drawer = Drawer::default();
    let orders = drawer.add();
    let mut source = drawer.source();
    orders.send(Order::Shoot(7)).unwrap();
    let (frame, _) = frame(&mut source);
    assert_eq!((frame.data, frame.index), (vec![7, 7], 0));
    assert!(frame.captured.elapsed() >= Duration::from_secs(1));
    assert!(frame.timestamp.elapsed().unwrap() >= Duration::from_secs(1));
    assert!(source.is_live());
}

#[test]
fn only_the_newest_frame_is_seen_and_the_others_count() {
    let drawer = Drawer::default();
    let orders = drawer.add();
    let mut source = drawer.source();
    for grey in 0..5 {
        orders.send(Order::Shoot(grey)).unwrap();
    }
    let worker = Worker::start("camera", source.open.clone()).unwrap();
    while worker.taken() < 5 {
        std::thread::yield_now();
    }
    source.worker = Some(worker);
    let (frame, _) = frame(&mut source);
    assert_eq!((frame.data[0], frame.index), (4, 4));
}

#[test]
fn an_unplugged_camera_is_a_state_and_comes_back() {
    let drawer = Drawer::default();
    let orders = drawer.add();
    let mut source = drawer.source();
    orders.send(Order::Shoot(1)).unwrap();
    assert_eq!(frame(&mut source).0.index, 0);
    drop(orders);
    until(&mut source, "unplugged");
    until(&mut source, "there is no camera");
    let orders = drawer.add();
    orders.send(Order::Shoot(2)).unwrap();
    let (frame, reasons) = frame(&mut source);
    assert_eq!((frame.data[0], frame.index), (2, 1));
    assert!(!reasons.contains(&"unplugged".to_string()));
    assert_eq!(drawer.closed.load(Ordering::SeqCst), 1);
}

#[test]
fn a_frozen_camera_is_noticed_and_one_thread_at_most_is_left_behind() {
    let drawer = Drawer::default();
    let [frozen, frozen_too] = [drawer.add(), drawer.add()];
    let mut source = drawer.source();
    frozen.send(Order::Shoot(1)).unwrap();
    frame(&mut source);
    source.patience.stall = IMPATIENT;
    until(&mut source, "unplug the camera");
    // The second freezes as well: it is not given up while the first is stuck.
    while drawer.opened.load(Ordering::SeqCst) < 2 {
        source.next().unwrap();
    }
    for _ in 0..50 {
        assert!(matches!(source.next().unwrap(), Next::NoSignal(_)));
    }
    assert_eq!(drawer.opened.load(Ordering::SeqCst), 2);
    // It thaws and is seen again; the first thaws and closes.
    frozen_too.send(Order::Shoot(3)).unwrap();
    assert_eq!(frame(&mut source).0.data[0], 3);
    frozen.send(Order::Shoot(9)).unwrap();
    while drawer.closed.load(Ordering::SeqCst) < 1 {
        std::thread::yield_now();
    }
    frozen_too.send(Order::Shoot(4)).unwrap();
    assert_eq!(frame(&mut source).0.data[0], 4);
}

#[test]
fn attempts_that_fail_because_the_camera_is_frozen_do_not_hide_that_it_is() {
    let drawer = Drawer::default();
    let frozen = drawer.add();
    let mut source = drawer.source();
    source.patience.stall = IMPATIENT;
    until(&mut source, "unplug the camera");
    let attempts = drawer.attempts.load(Ordering::SeqCst);
    while drawer.attempts.load(Ordering::SeqCst) < attempts + 3 {
        let next = source.next().unwrap();
        assert!(
            matches!(&next, Next::NoSignal(reason) if reason != "there is no camera"),
            "{next:?}"
        );
    }
    drop(frozen);
    until(&mut source, "there is no camera");
}

#[test]
fn a_source_with_a_frozen_camera_is_dropped_at_once() {
    let drawer = Drawer::default();
    let frozen = drawer.add();
    let mut source = drawer.source();
    source.patience.stall = IMPATIENT;
    until(&mut source, "unplug the camera");
    drop(source);
    assert_eq!(drawer.closed.load(Ordering::SeqCst), 0);
    drop(frozen);
}

#[test]
fn a_closed_source_closes_its_camera() {
    let drawer = Drawer::default();
    let orders = drawer.add();
    let mut source = drawer.source();
    orders.send(Order::Shoot(1)).unwrap();
    frame(&mut source);
    drop(source);
    orders.send(Order::Shoot(2)).unwrap();
    while drawer.closed.load(Ordering::SeqCst) < 1 {
        std::thread::yield_now();
    }
}

#[test]
fn what_lasts_is_an_error_at_the_start_only() {
    let drawer = Drawer::default();
    let lasting = || Order::Fail(Failure::Lasting("no permission".into()));
    let orders = drawer.add();
    orders.send(lasting()).unwrap();
    let mut source = drawer.source();
    let error = loop {
        match source.next() {
            Ok(Next::NoSignal(_)) => {}
            other => break other.unwrap_err().to_string(),
        }
    };
    assert_eq!(error, "camera: no permission");
    let orders = drawer.add();
    orders.send(Order::Shoot(1)).unwrap();
    orders.send(lasting()).unwrap();
    let mut source = drawer.source();
    frame(&mut source);
    until(&mut source, "no permission");
}

#[test]
fn damaged_pictures_and_panics_of_libraries_are_states() {
    let drawer = Drawer::default();
    let orders = drawer.add();
    let mut source = drawer.source();
    orders.send(Order::Cut).unwrap();
    until(&mut source, "1 of 2 bytes");
    orders.send(Order::Panic).unwrap();
    until(&mut source, "library");
    drawer.add().send(Order::Shoot(5)).unwrap();
    assert_eq!(frame(&mut source).0.data[0], 5);
}

#[test]
fn names_of_cameras_are_understood() {
    let options = SourceOptions::default();
    for device in ["0", "/dev/video3", "/dev/v4l/by-id/usb-x-video-index0"] {
        assert!(
            CameraSource::new("v4l2:x", device, options).is_ok(),
            "{device}"
        );
    }
    for device in ["", "video0", "-1", "usb"] {
        let error = CameraSource::new("v4l2:x", device, options).err().unwrap();
        assert!(error.to_string().contains("v4l2:/dev/video0"), "{device}");
    }
}
