//! Walkers who hide each other, and what a mediocre detector sees of them.

use eyas::detect::{BoundingBox, Detection};

use crate::clear_mot::Object;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 480.0;
/// Steps of the simulation a second.
const STEPS: usize = 30;
const CONFIDENCE: f32 = 0.4;
const LEAST_CONFIDENCE: f32 = 0.1;

/// Numbers that look random, the same for the same seed.
pub struct Random(pub u64);

impl Random {
    /// From 0 to 1.
    pub fn share(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 40) as f64 / f64::from(1 << 24)
    }

    pub fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * self.share()
    }

    /// Normal, of standard deviation 1: the sum of twelve.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.share()).sum::<f64>() - 6.0
    }
}

/// Someone who walks about, with heavier turns now and then; nearer to the viewer the lower the feet are.
struct Walker {
    feet: [f64; 2],
    size: [f64; 2],
    speed: f64,
    heading: f64,
}

impl Walker {
    fn new(random: &mut Random) -> Self {
        let height = random.between(60.0, 130.0);
        Self {
            feet: [random.between(50.0, 590.0), random.between(150.0, 420.0)],
            size: [height * random.between(0.35, 0.45), height],
            // 0.7 to 1.7 metres a second for someone of 1.7 metres.
            speed: height * random.between(0.4, 1.0),
            heading: random.between(0.0, std::f64::consts::TAU),
        }
    }

    fn step(&mut self, random: &mut Random) {
        let dt = 1.0 / STEPS as f64;
        self.heading += 0.5 * dt.sqrt() * random.normal();
        self.feet[0] += self.speed * dt * self.heading.cos();
        self.feet[1] += self.speed * dt * 0.4 * self.heading.sin();
        if !(30.0..=WIDTH - 30.0).contains(&self.feet[0]) {
            self.heading = std::f64::consts::PI - self.heading;
            self.feet[0] = self.feet[0].clamp(30.0, WIDTH - 30.0);
        }
        if !(120.0..=HEIGHT - 10.0).contains(&self.feet[1]) {
            self.heading = -self.heading;
            self.feet[1] = self.feet[1].clamp(120.0, HEIGHT - 10.0);
        }
    }

    fn bounds(&self) -> [f64; 4] {
        let [x, y] = self.feet;
        let [width, height] = self.size;
        [x - width / 2.0, y - height, x + width / 2.0, y]
    }

    /// How much of it another one hides.
    fn hidden_by(&self, other: &Self) -> f64 {
        if other.feet[1] <= self.feet[1] {
            return 0.0;
        }
        let (a, b) = (self.bounds(), other.bounds());
        let width = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
        let height = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
        width * height / (self.size[0] * self.size[1])
    }
}

/// A frame of it.
pub struct Frame {
    pub second: f64,
    pub truth: Vec<Object>,
    pub strong: Vec<Detection>,
    pub faint: Vec<Detection>,
}

/// So many walkers, so many frames a second, which divide 30.
pub fn crowd(seed: u64, walkers: usize, rate: usize, seconds: usize) -> Vec<Frame> {
    let mut random = Random(seed);
    let mut walkers: Vec<Walker> = (0..walkers).map(|_| Walker::new(&mut random)).collect();
    let mut frames = Vec::new();
    for step in 0..seconds * STEPS {
        walkers
            .iter_mut()
            .for_each(|walker| walker.step(&mut random));
        if step % (STEPS / rate) == 0 {
            frames.push(look(step as f64 / STEPS as f64, &walkers, &mut random));
        }
    }
    frames
}

/// Confidence falls with what is hidden; of 25 one is missed; now and then nothing is taken for somebody.
fn look(second: f64, walkers: &[Walker], random: &mut Random) -> Frame {
    let mut found = Vec::new();
    for (index, walker) in walkers.iter().enumerate() {
        let others = walkers
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index);
        let hidden = others
            .map(|(_, other)| walker.hidden_by(other))
            .fold(0.0, f64::max);
        let confidence = 0.85 * (1.0 - 1.1 * hidden) + 0.08 * random.normal();
        let missed = hidden > 0.7 || random.share() < 0.04;
        let [width, height] = walker.size.map(|side| 0.02 * side);
        let off = [width, height, width, height].map(|deviation| deviation * random.normal());
        if !missed {
            let bounds = walker.bounds();
            found.push(person(
                std::array::from_fn(|i| bounds[i] + off[i]),
                confidence,
            ));
        }
    }
    if random.share() < 0.1 {
        let [x, y] = [random.between(0.0, 600.0), random.between(0.0, 380.0)];
        found.push(person(
            [x, y, x + 40.0, y + 100.0],
            random.between(0.1, 0.5),
        ));
    }
    found.retain(|found| found.confidence >= LEAST_CONFIDENCE);
    found.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    let (strong, faint) = found
        .into_iter()
        .partition(|found| found.confidence >= CONFIDENCE);
    let truth = walkers.iter().enumerate().map(|(id, walker)| Object {
        id,
        label: "person",
        bounds: bounding_box(walker.bounds()),
    });
    Frame {
        second,
        truth: truth.collect(),
        strong,
        faint,
    }
}

fn person(bounds: [f64; 4], confidence: f64) -> Detection {
    Detection {
        label: "person".into(),
        class_id: 0,
        confidence: confidence.min(0.99) as f32,
        bounding_box: bounding_box(bounds),
        track_id: None,
    }
}

fn bounding_box(bounds: [f64; 4]) -> BoundingBox {
    let [x_min, y_min, x_max, y_max] = bounds.map(|value| value as f32);
    BoundingBox {
        x_min,
        y_min,
        x_max,
        y_max,
    }
}
