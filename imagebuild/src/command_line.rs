//! The commands.

use std::io::{Cursor, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use masthead_diagnostics::Report;
use masthead_seed::Seed;
use masthead_streams::{note, print};

use crate::archive::{Archive, Mirrors};
use crate::bundle;
use crate::cache::Cache;
use crate::inspect;
use crate::lock::Lock;
use crate::manifest::{Components, Fetch, Manifest};
use crate::media::{self, Files, iso::Contents};
use crate::progress::{Progress, megabytes};
use crate::steps::{self, Build, packages};
use crate::tools::{self, Extra};

/// Builds the image of a Masthead node, and shows what is in one.
#[derive(Debug, Parser)]
#[command(name = "imagebuild", version)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the image that a manifest describes
    Build(BuildArguments),
    /// Compare the lock with Debian's archive, or bring it up to date
    Lock(LockArguments),
    /// Show what is inside an image (a UKI, or any other EFI program)
    Inspect {
        /// The file
        file: PathBuf,
        /// For people or for programs
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Make a signed upgrade bundle of an image
    Bundle {
        /// The image (a UKI)
        image: PathBuf,
        /// The private key that signs it (`imagebuild keygen` makes one)
        #[arg(long)]
        key: PathBuf,
        /// The bundle
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Make an ISO image of a built image, with a seed on it
    Iso {
        /// Folder that has received the results of `imagebuild build`
        #[arg(long, default_value = "build/image")]
        image: PathBuf,
        /// The seed, which is checked first
        #[arg(long, value_name = "FILE")]
        seed: Option<PathBuf>,
        /// The ISO image
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Make a key pair that signs bundles, and show its public half
    Keygen {
        /// The file that receives the private key
        file: PathBuf,
    },
    /// Work on manifests
    #[command(subcommand)]
    Manifest(ManifestCommand),
}

#[derive(Debug, Args)]
struct BuildArguments {
    #[command(flatten)]
    sources: Sources,
    /// Fail when the archive has dropped a locked package, rather than take the next one
    #[arg(long)]
    locked: bool,
    /// Folder that receives the results
    #[arg(long, default_value = "build/image")]
    output: PathBuf,
    /// Folder that keeps what may be used again
    #[arg(long, default_value = "build/cache")]
    cache: PathBuf,
}

#[derive(Debug, Args)]
struct LockArguments {
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    what: LockAction,
    /// Folder that keeps the archive's lists
    #[arg(long, default_value = "build/cache")]
    cache: PathBuf,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct LockAction {
    /// Lock what the archive has now
    #[arg(long)]
    update: bool,
    /// Say what an update would change, and fail if it would
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Args)]
struct Sources {
    /// The manifest
    #[arg(long, default_value = "configs/image.toml")]
    manifest: PathBuf,
    /// The lock [default: beside the manifest, with the ending .lock]
    #[arg(long)]
    lock: Option<PathBuf>,
    /// Debian's main archive [default: the host's own]
    #[arg(long, value_name = "ADDRESS")]
    mirror: Option<String>,
    /// Debian's security archive [default: the host's own]
    #[arg(long, value_name = "ADDRESS")]
    security_mirror: Option<String>,
}

impl Sources {
    fn lock(&self) -> PathBuf {
        self.lock
            .clone()
            .unwrap_or_else(|| self.manifest.with_extension("lock"))
    }

    fn mirrors(&self) -> Mirrors {
        Mirrors {
            main: self.mirror.clone(),
            security: self.security_mirror.clone(),
        }
    }
}

#[derive(Debug, Subcommand)]
enum ManifestCommand {
    /// Say everything that is wrong with a manifest
    Check {
        /// The manifest
        file: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

impl CommandLine {
    /// Carries out the command. Exit status 64 stands for a faulty manifest or seed, 1 for all else.
    pub fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Build(arguments) => build(&arguments),
            Command::Lock(arguments) => lock(&arguments),
            Command::Inspect { file, output } => show(&file, output),
            Command::Bundle { image, key, output } => bundle(&image, &key, &output),
            Command::Iso {
                image,
                seed,
                output,
            } => iso(&image, seed.as_deref(), &output),
            Command::Keygen { file } => keygen(&file),
            Command::Manifest(ManifestCommand::Check { file }) => check(&file),
        };
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                if let Some(report) = error.downcast_ref::<Report>() {
                    note(&report.to_string());
                    return ExitCode::from(64);
                }
                note(&format!("imagebuild: {error:#}\n"));
                ExitCode::FAILURE
            }
        }
    }
}

fn build(arguments: &BuildArguments) -> Result<()> {
    let manifest = Manifest::load(&arguments.sources.manifest)?;
    let archives = |fetch: &[Fetch]| fetch.iter().any(|one| one.member.is_some());
    tools::require(match &manifest.components {
        Components::Build { .. } => Extra::Go,
        Components::Urls { fetch, .. } if archives(fetch) => Extra::Tar,
        Components::Urls { .. } | Components::Directory { .. } => Extra::Nothing,
    })?;
    let path = arguments.sources.lock();
    let lock = Lock::load(&path)?.with_context(|| {
        format!(
            "{} is missing: `imagebuild lock --update` writes it",
            path.display()
        )
    })?;
    let mismatches = packages::mismatches(&manifest, &lock);
    ensure!(
        mismatches.is_empty(),
        "{} does not fit the manifest: {}; run `imagebuild lock --update`",
        path.display(),
        mismatches.join("; ")
    );
    let progress = Progress::new();
    let cache = Cache::open(&arguments.cache, &progress)?;
    let result = steps::run(
        &Build {
            manifest: &manifest,
            time: image_time(&lock)?,
            lock: &lock,
            locked: arguments.locked,
            mirrors: &arguments.sources.mirrors(),
            root: PathBuf::from("."),
            cache: &cache,
            progress: &progress,
        },
        &arguments.output,
    );
    // What was hashed stays known, whether or not a later step failed.
    cache.close()?;
    result
}

/// SOURCE_DATE_EPOCH, or else when the lock was made.
fn image_time(lock: &Lock) -> Result<u64> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH is {text:?}, not Unix seconds")),
        Err(_) => Ok(lock.time),
    }
}

fn lock(arguments: &LockArguments) -> Result<()> {
    let manifest = Manifest::load(&arguments.sources.manifest)?;
    tools::require(Extra::Nothing)?;
    let path = arguments.sources.lock();
    let old = Lock::load(&path)?;
    let progress = Progress::new();
    let cache = Cache::open(&arguments.cache, &progress)?;
    let line = progress.line("archive");
    line.doing("fetching the lists");
    let archive = Archive::open(
        &cache.place("apt"),
        &manifest.debian.suite,
        &arguments.sources.mirrors(),
    )?;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("this machine's clock is before 1970")?
        .as_secs();
    let new = packages::resolve(&archive, &manifest, now)?;
    line.done(&format!("{} packages", new.packages.len()));
    let differences = packages::differences(old.as_ref(), &new);
    for difference in &differences {
        say(difference)?;
    }
    let suite_changed = old.as_ref().is_some_and(|old| old.suite != new.suite);
    if differences.is_empty() && !suite_changed {
        return say(&format!("{} is up to date", path.display()));
    }
    if arguments.what.check {
        bail!(
            "{} is behind the archive: `imagebuild lock --update`",
            path.display()
        );
    }
    new.store(&path)?;
    say(&format!("wrote {}", path.display()))
}

fn say(line: &str) -> Result<()> {
    print(format!("{line}\n").as_bytes()).context("writing to the standard output")
}

fn show(file: &Path, output: Output) -> Result<()> {
    let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let inspection =
        inspect::inspect(&bytes).with_context(|| format!("inspecting {}", file.display()))?;
    let text = match output {
        Output::Text => inspection.to_string(),
        Output::Json => {
            let text = serde_json::to_string_pretty(&inspection).context("writing JSON")?;
            format!("{text}\n")
        }
    };
    print(text.as_bytes()).context("writing to the standard output")
}

fn bundle(image: &Path, key: &Path, output: &Path) -> Result<()> {
    let (header, by) = bundle::make(image, key, output)?;
    say(&format!(
        "{}: Masthead {} with Kubernetes {} and etcd {}, {}, signed by {by}",
        output.display(),
        header.version,
        header.kubernetes,
        header.etcd,
        megabytes(header.size),
    ))
}

fn iso(image: &Path, seed: Option<&Path>, output: &Path) -> Result<()> {
    let reading = |folder: &Path| format!("reading the image in {}", folder.display());
    // Before anything else is looked at: a mistake in it is what people make.
    let seed = seed.map(checked_seed).transpose()?;
    let files = Files::of_build(image)?;
    let release = masthead_uki::check(&mut Cursor::new(&files.image));
    let release = release.with_context(|| reading(image))?;
    let contents = Contents::of(&files, seed.as_deref()).with_context(|| reading(image))?;
    media::iso::make(&contents, output)?;
    let with = if seed.is_some() { " with a seed" } else { "" };
    let version = release.version;
    say(&format!("{}: Masthead {version}{with}", output.display()))
}

/// The bytes of a seed that a node would take.
fn checked_seed(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let (seed, report) = Seed::check(&path.display().to_string(), &bytes);
    if seed.is_none() {
        return Err(report.into());
    }
    let warnings = report.to_string();
    if !warnings.is_empty() {
        note(&format!("{warnings}\n"));
    }
    Ok(bytes)
}

fn keygen(file: &Path) -> Result<()> {
    let public = bundle::generate_key(file)?;
    say(&public.to_string())
}

fn check(file: &Path) -> Result<()> {
    Manifest::load(file)?;
    if std::io::stdout().is_terminal() {
        say(&format!("{}: no fault found", file.display()))?;
    }
    Ok(())
}
