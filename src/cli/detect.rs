//! `eyas detect`: boxes for stills.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use image::ImageFormat;
use image::codecs::jpeg::JpegEncoder;

use super::load::{LoadedDetector, ModelArgs, Work, load_detector};
use crate::error::{Error, Result};
use crate::sink::Scene;
use crate::sink::draw::{annotate, annotate_classes, frame_to_rgb};
use crate::sink::events::EventRecord;
use crate::source::read_picture;

/// Quality of annotated copies, 1 to 100.
const JPEG_QUALITY: u8 = 92;

/// Finds objects on pictures
#[derive(Clone, Debug, clap::Args)]
pub struct DetectArgs {
    /// Pictures: JPEG, PNG, BMP, GIF, WebP
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Print one line of JSON for each picture
    #[arg(long)]
    pub json: bool,
    /// Write copies with boxes drawn into this folder, which is made if it is missing
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Runs the command. A picture that fails is reported and the others are still done: then the exit code is 1.
pub fn run(args: &DetectArgs) -> Result<ExitCode> {
    let mut loaded = load_detector(&args.model, Work::Stills)?;
    if let Some(folder) = &args.out {
        let action = format!("make the folder {}", folder.display());
        std::fs::create_dir_all(folder).map_err(Error::io(action))?;
    }
    let mut failed = false;
    let mut written = HashSet::new();
    for index in 0..args.images.len() {
        if let Err(error) = one(&mut loaded, args, index, &mut written) {
            if is_broken_pipe(&error) {
                return Ok(ExitCode::SUCCESS);
            }
            eprintln!("eyas: {error}");
            failed = true;
        }
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Whoever read our output has seen enough.
fn is_broken_pipe(error: &Error) -> bool {
    matches!(error, Error::Io { error, .. } if error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// The picture `args.images[index]`; `written` are the copies made so far.
fn one(
    loaded: &mut LoadedDetector,
    args: &DetectArgs,
    index: usize,
    written: &mut HashSet<PathBuf>,
) -> Result<()> {
    let image = &args.images[index];
    let mut frame = read_picture(image)?;
    frame.index = index as u64;
    let detected = loaded.detector.detect(&frame)?;
    let mut scene = Scene::new(Arc::new(frame), detected.detections, detected.inference);
    scene.classes = detected.classes;
    let text = if args.json {
        EventRecord::new(&scene).to_line() + "\n"
    } else {
        describe(image, &scene)
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(Error::io("write to stdout"))?;
    if let Some(folder) = &args.out {
        let target = annotated_path(image, folder);
        check_target(&target, &args.images, written)?;
        save(&scene, &target)?;
        written.insert(target);
    }
    Ok(())
}

/// A heading and one line a box, or a class of the whole picture.
fn describe(image: &Path, scene: &Scene) -> String {
    let count = match scene.detections.len() {
        0 if !scene.classes.is_empty() => "as a whole".into(),
        0 => "nothing".into(),
        1 => "1 object".into(),
        n => format!("{n} objects"),
    };
    let milliseconds = scene.inference.as_secs_f64() * 1e3;
    let mut text = format!("{}: {count} in {milliseconds:.1} ms\n", image.display());
    let longest = scene
        .detections
        .iter()
        .map(|d| d.label.chars().count())
        .max();
    let width = longest.unwrap_or(0);
    for detection in &scene.detections {
        let b = &detection.bounding_box;
        text += &format!(
            "  {:width$} {:.3}  x {:.1}..{:.1}  y {:.1}..{:.1}\n",
            detection.label, detection.confidence, b.x_min, b.x_max, b.y_min, b.y_max
        );
    }
    for class in &scene.classes {
        text += &format!("  {:.3}  {}\n", class.confidence, class.label);
    }
    text
}

/// Refuses to replace a picture that was passed, or a copy made in this run.
fn check_target(target: &Path, images: &[PathBuf], written: &HashSet<PathBuf>) -> Result<()> {
    let name = target.display();
    if let Some(image) = images.iter().find(|image| is_same_file(target, image)) {
        return Err(Error::Usage(format!(
            "--out: {name} would overwrite the picture {}; pass another folder",
            image.display()
        )));
    }
    if written.contains(target) {
        return Err(Error::Usage(format!(
            "--out: two of the pictures would become {name}; pass them in separate runs"
        )));
    }
    Ok(())
}

/// Writes the annotated copy in the format that the name ends in.
fn save(scene: &Scene, target: &Path) -> Result<()> {
    let mut picture = frame_to_rgb(&scene.frame);
    annotate(&mut picture, &scene.detections);
    annotate_classes(&mut picture, &scene.classes);
    let mut bytes = std::io::Cursor::new(Vec::new());
    let encoded = if is_jpeg(target) {
        picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))
    } else {
        picture.write_to(&mut bytes, ImageFormat::Png)
    };
    let name = target.display().to_string();
    encoded.map_err(|error| Error::Data {
        file: name.clone(),
        reason: format!("cannot be encoded: {error}"),
    })?;
    std::fs::write(target, bytes.into_inner()).map_err(Error::io(format!("write {name}")))
}

fn is_jpeg(path: &Path) -> bool {
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    matches!(ending.as_deref(), Some("jpg" | "jpeg"))
}

/// The picture's own name in another folder: `.jpg` and `.jpeg` stay, all else becomes `.png`.
fn annotated_path(image: &Path, folder: &Path) -> PathBuf {
    let mut target = folder.join(image.file_name().unwrap_or(image.as_os_str()));
    if !is_jpeg(image) {
        target.set_extension("png");
    }
    target
}

/// Whether both names lead to one existing file, links followed.
fn is_same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use super::*;
    use crate::detect::{BoundingBox, Detection};
    use crate::source::{Frame, PixelFormat, YuvRange};

    fn scene() -> Scene {
        Scene::new(
            Arc::new(Frame {
                width: 64,
                height: 48,
                format: PixelFormat::Rgb,
                range: YuvRange::Full,
                data: vec![9; 64 * 48 * 3],
                index: 0,
                captured: Instant::now(),
                timestamp: SystemTime::now(),
                source: "a.bmp".into(),
            }),
            vec![Detection {
                label: "cat".into(),
                class_id: 16,
                confidence: 0.5,
                bounding_box: BoundingBox {
                    x_min: 1.0,
                    y_min: 2.0,
                    x_max: 30.0,
                    y_max: 40.25,
                },
                track_id: None,
            }],
            Duration::from_millis(12),
        )
    }

    #[test]
    fn one_line_a_box() {
        assert_eq!(
            describe(Path::new("d/a.bmp"), &scene()),
            "d/a.bmp: 1 object in 12.0 ms\n  cat 0.500  x 1.0..30.0  y 2.0..40.2\n"
        );
    }

    #[test]
    fn copies_never_replace_the_picture() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("a.png");
        std::fs::write(&input, b"the input").unwrap();
        let images = [folder.path().join("sub/a.png"), input.clone()];
        let target = annotated_path(&images[0], folder.path());
        let error = check_target(&target, &images, &HashSet::new()).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let elsewhere = annotated_path(&images[1], &folder.path().join("out"));
        check_target(&elsewhere, &images, &HashSet::new()).unwrap();
        assert!(check_target(&elsewhere, &images, &HashSet::from([elsewhere.clone()])).is_err());
    }

    #[test]
    fn copies_keep_the_kind_of_their_name() {
        let folder = tempfile::tempdir().unwrap();
        for (image, copy) in [("x/a.bmp", "a.png"), ("b.JPG", "b.JPG")] {
            let target = annotated_path(Path::new(image), folder.path());
            assert_eq!(target, folder.path().join(copy));
            save(&scene(), &target).unwrap();
            assert_eq!(image::open(target).unwrap().width(), 64);
        }
    }
}
