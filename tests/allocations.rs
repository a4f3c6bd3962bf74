//! A running engine allocates nothing: not for its inputs, not for a run, on any number of threads. Nor does
//! preprocessing from the second frame of a size on.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use std::time::{Instant, SystemTime};

use eyas::detect::{Fit, Preprocessor};
use eyas::engine::{self, Engine, Options};
use eyas::model;
use eyas::source::{Frame, PixelFormat, YuvRange};
use eyas::tensor::{DType, Shape, TensorData, TensorInfo};

/// The system's allocator, counting the calls of all threads that ask for memory.
struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to `System` unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        CALLS.fetch_add(1, Relaxed);
        // SAFETY: `pointer` came from `System` with this layout.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Models, and how many runs of each are counted. Queues that allocate a block now and then show in many runs.
const MODELS: [(&str, usize); 4] = [
    ("tests/golden/tiny_ssd.tflite", 300),
    (
        "../shared/models/ssd_mobilenet_v1_300_coco_quant.tflite",
        10,
    ),
    (
        "../shared/models/ssd_mobilenet_v2_fpnlite_320_cat_raccoon_int8.tflite",
        10,
    ),
    (
        "../shared/models/ssd_mobilenet_v2_fpnlite_320_coco_dynrange.tflite",
        2,
    ),
];

/// Noise for every input: another one for each `seed`.
fn noise(engine: &dyn Engine, seed: usize) -> Vec<TensorData> {
    let fill = |elements: usize| (0..elements).map(move |at| (at * 7919 + seed * 104_729) >> 3);
    let inputs = engine.inputs().iter();
    inputs
        .map(|info| {
            let codes = fill(info.shape.elements());
            match info.dtype {
                DType::U8 => TensorData::U8(codes.map(|code| code as u8).collect()),
                DType::I8 => TensorData::I8(codes.map(|code| code as i8).collect()),
                DType::I32 => TensorData::I32(codes.map(|code| code as i32 % 3).collect()),
                DType::F32 => {
                    TensorData::F32(codes.map(|code| code as u8 as f32 / 255.0).collect())
                }
            }
        })
        .collect()
}

/// Allocations of `runs` runs on new inputs, after a few to warm up: the smallest number of three rounds, for the test
/// harness allocates now and then on a thread of its own.
fn allocations(path: &Path, threads: usize, runs: usize) -> usize {
    let model = model::load_file(path).unwrap();
    let options = Options {
        threads,
        ..Options::default()
    };
    let mut engine = engine::load(&model, options).unwrap();
    let frames = [1, 2].map(|seed| noise(engine.as_ref(), seed));
    let mut run = |frame: &[TensorData]| {
        for (index, data) in frame.iter().enumerate() {
            engine.set_input(index, data.view()).unwrap();
        }
        engine.run().unwrap();
    };
    for frame in &frames {
        run(frame);
    }
    let mut round = || {
        let before = CALLS.load(Relaxed);
        for frame in frames.iter().cycle().take(runs) {
            run(frame);
        }
        CALLS.load(Relaxed) - before
    };
    [round(), round(), round()].into_iter().min().unwrap()
}

/// Allocations of preprocessing 100 frames: the smallest number of three rounds.
fn preprocessing_allocations(format: PixelFormat) -> usize {
    let frame = Frame {
        width: 98,
        height: 70,
        format,
        range: YuvRange::Full,
        data: vec![9; format.frame_bytes(98, 70)],
        index: 0,
        captured: Instant::now(),
        timestamp: SystemTime::now(),
        source: "grey".into(),
    };
    let info = TensorInfo {
        name: "image".into(),
        shape: Shape::from([1, 32, 32, 3]),
        dtype: DType::I8,
        quant: None,
    };
    let mut preprocessor = Preprocessor::new(&info, None, Fit::Letterbox, "m").unwrap();
    preprocessor.run(&frame);
    let mut round = || {
        let before = CALLS.load(Relaxed);
        for _ in 0..100 {
            std::hint::black_box(preprocessor.run(&frame));
        }
        CALLS.load(Relaxed) - before
    };
    [round(), round(), round()].into_iter().min().unwrap()
}

/// The only test of its file: another one at the same time would be counted.
#[test]
fn runs_do_not_allocate() {
    let before = CALLS.load(Relaxed);
    drop(std::hint::black_box(vec![0u8; 100]));
    assert!(CALLS.load(Relaxed) > before, "the allocator does not count");
    for format in [PixelFormat::Rgb, PixelFormat::Yuyv, PixelFormat::I420] {
        assert_eq!(preprocessing_allocations(format), 0, "{format:?}");
    }
    for (model, runs) in MODELS {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(model);
        if !path.exists() {
            println!("SKIPPED: ../shared is absent");
            continue;
        }
        for threads in [1, 2, 4] {
            let count = allocations(&path, threads, runs);
            println!("{model}, {threads} threads: {count} allocations in {runs} runs");
            assert_eq!(count, 0, "{model} with {threads} threads");
        }
    }
}
