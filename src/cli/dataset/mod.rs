//! `eyas dataset`: data sets from one form into another, in parts, in numbers.

mod text;

use std::path::PathBuf;

use super::progress::Progress;
use super::{load, print};
use crate::dataset::split::{self, Ratios};
use crate::dataset::stats::Stats;
use crate::dataset::{self, Dataset, Existing, Form, Keep, Missing, Output, Pictures, Query};
use crate::error::{Error, Result};

/// Flags that name a data set.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct DatasetArgs {
    /// The data set: a folder, a COCO .json file, or the data.yaml of a YOLO data set
    #[arg(value_name = "DATASET")]
    pub path: PathBuf,
    /// Folder of the pictures [default: where the form has them]
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Only this part of the data set: train, val ... [default: all of it]
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,
    /// Form of the data set: coco, yolo or voc [default: told by what is there]
    #[arg(long, value_name = "FORM")]
    form: Option<Form>,
    /// Label file with the names of the classes of a YOLO data set that brings none
    #[arg(long, value_name = "FILE")]
    names: Option<PathBuf>,
    /// Leave out pictures that are not there
    #[arg(long)]
    skip_missing: bool,
}

impl DatasetArgs {
    /// Reads the data set.
    pub fn read(&self, keep: Keep) -> Result<Dataset> {
        let names = self.names.as_deref().map(load::read_names).transpose()?;
        dataset::read(&Query {
            names: names.as_deref(),
            ..self.query(keep)
        })
    }

    /// The query, without names.
    pub fn query(&self, keep: Keep) -> Query<'_> {
        Query {
            path: &self.path,
            form: self.form,
            images: self.images.as_deref(),
            split: self.split.as_deref(),
            names: None,
            keep,
        }
    }

    /// What becomes of pictures that are not there.
    pub fn missing(&self) -> Missing {
        if self.skip_missing {
            Missing::Skip
        } else {
            Missing::Refuse
        }
    }
}

/// Converts, divides and describes data sets.
#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Write a data set in another form
    Convert {
        #[command(flatten)]
        dataset: DatasetArgs,
        /// Form to write: coco, yolo or voc
        #[arg(long, value_name = "FORM")]
        to: Form,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Divide a data set into parts for training, validation and testing
    Split {
        #[command(flatten)]
        dataset: DatasetArgs,
        /// Shares of train, val and test
        #[arg(long, value_name = "A/B[/C]", default_value = "80/10/10")]
        ratios: Ratios,
        /// The same seed gives the same parts
        #[arg(long, value_name = "N", default_value_t = 0)]
        seed: u64,
        /// Keep pictures that follow each other by name together in blocks of N, as frames of one video should be
        #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
        block: u32,
        /// Form to write: coco, yolo or voc [default: the form of the data set]
        #[arg(long, value_name = "FORM")]
        to: Option<Form>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Tell what is in a data set: objects of each class, sizes of boxes, pictures without objects
    Stats {
        #[command(flatten)]
        dataset: DatasetArgs,
        /// Print one object of JSON
        #[arg(long)]
        json: bool,
    },
}

/// Where a data set is written to.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct OutputArgs {
    /// Folder to write, which is made
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Hard links to the pictures in place of copies
    #[arg(long)]
    link: bool,
    /// Replace the data set that is there
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub(super) fn run(command: Command) -> Result<()> {
    match command {
        Command::Convert {
            dataset,
            to,
            output,
        } => write(&dataset, |_| Ok(()), Some(to), &output),
        Command::Split {
            dataset,
            ratios,
            seed,
            block,
            to,
            output,
        } => {
            let assign = |read: &mut Dataset| split::assign(read, &ratios, seed, block as usize);
            write(&dataset, assign, to, &output)
        }
        Command::Stats { dataset, json } => {
            let stats = Stats::of(&dataset.read(Keep::Boxes)?);
            print(&if json {
                to_json(&stats)? + "\n"
            } else {
                text::stats(&stats)
            })
        }
    }
}

fn to_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Internal(format!("JSON: {error}")))
}

fn write(
    args: &DatasetArgs,
    change: impl FnOnce(&mut Dataset) -> Result<()>,
    form: Option<Form>,
    output: &OutputArgs,
) -> Result<()> {
    let mut dataset = args.read(Keep::Everything)?;
    dataset.require_pictures(args.missing())?;
    change(&mut dataset)?;
    let form = form.unwrap_or(dataset.form);
    let place = Output {
        folder: &output.out,
        form,
        existing: if output.force {
            Existing::Replace
        } else {
            Existing::Refuse
        },
        pictures: if output.link {
            Pictures::Link
        } else {
            Pictures::Copy
        },
    };
    let mut progress = Progress::new("writing picture", dataset.images.len());
    let lost = dataset::write(&dataset, place, || progress.step())?;
    drop(progress);
    let name = output.out.display().to_string();
    lost.warn(&name);
    print(&text::written(&dataset, form, &name))
}
