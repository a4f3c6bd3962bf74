use eyas::detect::{Fit, Preprocessor};
use eyas::source::{Frame, PixelFormat, YuvRange};
use eyas::tensor::{DType, QuantParams, Shape, TensorInfo, TensorView};
use std::time::{Instant, SystemTime};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let only = args.get(1).filter(|a| !a.starts_with("--")).cloned();
    let runs: usize = args.get(2).and_then(|a| a.parse().ok()).unwrap_or(300);
    for side in [320usize, 300] {
        for format in [
            PixelFormat::Yuyv,
            PixelFormat::Nv12,
            PixelFormat::I420,
            PixelFormat::Rgb,
            PixelFormat::Grey,
        ] {
            let name = format!("{format:?}{side}");
            if only.as_ref().is_some_and(|o| *o != name && o != "all") {
                continue;
            }
            let bytes = format.frame_bytes(640, 480);
            let noise = (0..bytes).scan(0x9e37_79b9_u32, |s, _| {
                *s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                Some((*s >> 24) as u8)
            });
            let frame = Frame {
                width: 640,
                height: 480,
                format,
                range: YuvRange::Limited,
                data: noise.collect(),
                index: 0,
                captured: Instant::now(),
                timestamp: SystemTime::now(),
                source: "n".into(),
            };
            let info = TensorInfo {
                name: "i".into(),
                shape: Shape::from([1, side, side, 3]),
                dtype: DType::I8,
                quant: Some(QuantParams::per_tensor(1.0 / 128.0, 0)),
            };
            let mut pre = Preprocessor::new(&info, None, Fit::Stretch, "b").unwrap();
            let mut best = f64::MAX;
            for _ in 0..runs {
                let t = Instant::now();
                std::hint::black_box(pre.run(std::hint::black_box(&frame)));
                best = best.min(t.elapsed().as_secs_f64());
            }
            let TensorView::I8(v) = pre.run(&frame) else {
                panic!()
            };
            let hash = v.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, &b| {
                (h ^ b as u8 as u64).wrapping_mul(0x100_0000_01b3)
            });
            println!("{name:10} min {:.3} ms  {hash:016x}", best * 1e3);
        }
    }
}
