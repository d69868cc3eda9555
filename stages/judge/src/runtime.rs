//! Finding and loading ONNX Runtime, once per process.
//!
//! The order: the path the user gives (`ORT_DYLIB_PATH`), an installed library, the user's cache folder, and, unless that is
//! forbidden, a fetch from the Python package index into that folder ([`crate::fetch`]). Nothing else is ever loaded, and
//! whatever was tried goes into the error.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use fracture_stage::{Error, ErrorKind};
use ort::environment::Environment;

use crate::fetch::{self, Package};
use crate::provider::Provider;

/// The oldest minor version of ONNX Runtime 1.x that the `api-24` feature of `ort` takes.
const OLDEST_MINOR: u32 = 24;
/// What to type when the library cannot be had.
const HINT: &str = "install pip (python3-pip) and run again while online, or set ORT_DYLIB_PATH to libonnxruntime.so 1.24 or newer, \
                    e.g. from `pip install onnxruntime` (onnxruntime/capi/)";

/// Where to look. Nothing here reads the environment except [`RuntimeOptions::from_env`].
#[derive(Debug, Clone, Default)]
pub struct RuntimeOptions {
    /// The library the user points at; it must exist.
    pub explicit: Option<PathBuf>,
    /// Folders that may hold an installed `libonnxruntime`.
    pub system: Vec<PathBuf>,
    /// The folder `fracture/onnxruntime` of the user's cache; none: neither looked at nor fetched into.
    pub cache: Option<PathBuf>,
    /// Whether the library may be fetched.
    pub fetch: bool,
}

impl RuntimeOptions {
    /// The usual places: `ORT_DYLIB_PATH`, the system's library folders, `$XDG_CACHE_HOME` or `~/.cache`.
    pub fn from_env(offline: bool) -> Self {
        let path = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        Self {
            explicit: path("ORT_DYLIB_PATH"),
            system: system_folders(),
            cache: fracture_stage::user::user_cache().map(|cache| cache.join("onnxruntime")),
            fetch: !offline,
        }
    }
}

fn system_folders() -> Vec<PathBuf> {
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    let linux = ["/usr/local/lib", "/usr/local/lib64", "/usr/lib", "/usr/lib64", "/lib"].map(PathBuf::from);
    let multiarch = [
        Path::new("/usr/local/lib").join(&triple),
        Path::new("/usr/lib").join(&triple),
    ];
    let mac = [PathBuf::from("/opt/homebrew/lib"), PathBuf::from("/usr/local/lib")];
    if cfg!(target_os = "macos") {
        mac.to_vec()
    } else {
        multiarch.into_iter().chain(linux).collect()
    }
}

/// How a library was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The user pointed at it.
    Explicit,
    /// It is installed on the system.
    System,
    /// It lies in the user's cache folder.
    Cache,
    /// It was fetched just now.
    Fetched,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Explicit => "ORT_DYLIB_PATH",
            Self::System => "installed",
            Self::Cache => "cache",
            Self::Fetched => "fetched",
        })
    }
}

/// A library that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Where it is.
    pub path: PathBuf,
    /// Its version as far as the file's name tells; after loading always known.
    pub version: Option<String>,
    /// How it was found.
    pub origin: Origin,
}

/// Something worth one line to the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The library is being fetched with the package client named.
    Fetching {
        /// The version.
        version: String,
        /// The command that fetches it.
        client: String,
    },
    /// The library was fetched and checked.
    Fetched {
        /// The version.
        version: String,
        /// The file it was put into.
        into: PathBuf,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetching { version, client } => write!(f, "fetching ONNX Runtime {version} with `{client}`"),
            Self::Fetched { version, into } => write!(f, "fetched ONNX Runtime {version} into {}", into.display()),
        }
    }
}

/// ONNX Runtime, loaded. Cheap to clone; one per process.
#[derive(Debug, Clone)]
pub struct Runtime {
    environment: Environment,
    resolved: Resolved,
    provider: Provider,
}

static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Finds the library without loading it; fetches it only when `options` allow that.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] when there is none; the causes list everything that was tried.
    pub fn resolve(options: &RuntimeOptions, note: &mut dyn FnMut(Note)) -> Result<Resolved, Error> {
        let mut tried = Vec::new();
        find(options, &[], &mut tried, note)?.ok_or_else(|| unavailable(tried))
    }

    /// Finds and loads the library and makes the process's one environment. A second call gives the first one's runtime,
    /// whatever its options.
    ///
    /// # Errors
    /// [`ErrorKind::Environment`] when no library could be found or loaded; the causes list everything that was tried.
    pub fn load(options: &RuntimeOptions, note: &mut dyn FnMut(Note)) -> Result<Self, Error> {
        let mut loaded = LOADED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(runtime) = &*loaded {
            return Ok(runtime.clone());
        }
        let (mut tried, mut refused) = (Vec::new(), Vec::new());
        while let Some(mut resolved) = find(options, &refused, &mut tried, note)? {
            match open(&resolved.path) {
                Ok(environment) => {
                    resolved.version = resolved.version.or_else(build_version);
                    let provider = Provider::default();
                    return Ok(loaded
                        .insert(Self {
                            environment,
                            resolved,
                            provider,
                        })
                        .clone());
                }
                Err(cause) => {
                    tried.push(cause);
                    if matches!(resolved.origin, Origin::Explicit | Origin::Fetched | Origin::Cache) {
                        break;
                    }
                    refused.push(resolved.path);
                }
            }
        }
        Err(unavailable(tried))
    }

    /// Which library is loaded.
    pub fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    /// The version of the library, `unknown` when it does not say.
    pub fn version(&self) -> &str {
        self.resolved.version.as_deref().unwrap_or("unknown")
    }

    /// The runtime with sessions on another execution provider.
    ///
    /// # Errors
    /// When this program was built without it.
    pub fn on(mut self, provider: Provider) -> Result<Self, Error> {
        provider.check()?;
        self.provider = provider;
        Ok(self)
    }

    /// Where its sessions compute.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }
}

fn unavailable(tried: Vec<String>) -> Error {
    let mut error = Error::new(
        ErrorKind::Environment,
        "ONNX Runtime, which judges need, could not be had",
    )
    .hint(HINT);
    error.causes = tried;
    error
}

/// The first library in order that is not among `refused`; what was looked at and passed over goes into `tried`.
fn find(
    options: &RuntimeOptions,
    refused: &[PathBuf],
    tried: &mut Vec<String>,
    note: &mut dyn FnMut(Note),
) -> Result<Option<Resolved>, Error> {
    if let Some(path) = &options.explicit {
        if !path.is_file() {
            return Err(Error::new(
                ErrorKind::Environment,
                format!("ORT_DYLIB_PATH names {}, which is no file", path.display()),
            )
            .hint("correct ORT_DYLIB_PATH, or unset it to let fracture find or fetch the library"));
        }
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        return Ok(Some(Resolved {
            version: version_of(&path),
            path,
            origin: Origin::Explicit,
        }));
    }
    if let Some((path, version)) = installed(&options.system, refused, tried) {
        return Ok(Some(Resolved {
            path,
            version,
            origin: Origin::System,
        }));
    }
    let Some(package) = Package::for_this_platform() else {
        tried.push(format!(
            "no package of ONNX Runtime is pinned for {} {}",
            std::env::consts::OS,
            std::env::consts::ARCH
        ));
        return Ok(None);
    };
    let Some(cache) = &options.cache else {
        tried.push("no cache folder: neither XDG_CACHE_HOME nor a home folder is known".to_owned());
        return Ok(None);
    };
    let version = Some(package.version().to_owned());
    match package.cached(cache) {
        Ok(path) => {
            return Ok(Some(Resolved {
                path,
                version,
                origin: Origin::Cache,
            }));
        }
        Err(cause) => tried.push(cause),
    }
    if !options.fetch {
        tried.push("fetching it was not allowed (--offline)".to_owned());
        return Ok(None);
    }
    Ok(fetch::install(&package, cache, tried, note).map(|path| Resolved {
        path,
        version,
        origin: Origin::Fetched,
    }))
}

/// The newest usable library in the first folder that has one.
fn installed(folders: &[PathBuf], refused: &[PathBuf], tried: &mut Vec<String>) -> Option<(PathBuf, Option<String>)> {
    for folder in folders {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let is_library = name.starts_with("libonnxruntime.so")
                || name.starts_with("libonnxruntime.") && name.ends_with(".dylib");
            if is_library && entry.path().is_file() && !refused.contains(&entry.path()) {
                let version = version_of(&entry.path());
                match version.as_deref().and_then(minor) {
                    Some(minor) if minor < OLDEST_MINOR => {
                        tried.push(format!("{} is older than 1.{OLDEST_MINOR}", entry.path().display()));
                    }
                    minor => found.push((minor, entry.path(), version)),
                }
            }
        }
        if let Some((_, path, version)) = found.into_iter().max() {
            return Some((path, version));
        }
    }
    let shown: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
    tried.push(format!("no usable libonnxruntime in {}", shown.join(", ")));
    None
}

/// The version in a library's name, links followed: `libonnxruntime.so.1.31.1`, `libonnxruntime.1.31.1.dylib`.
fn version_of(path: &Path) -> Option<String> {
    let real = path.canonicalize().ok()?;
    let name = real.file_name()?.to_str()?;
    let version = name
        .strip_prefix("libonnxruntime.")?
        .trim_start_matches("so")
        .trim_start_matches('.')
        .trim_end_matches(".dylib");
    (version.contains('.') && version.split('.').all(|part| part.parse::<u32>().is_ok())).then(|| version.to_owned())
}

fn minor(version: &str) -> Option<u32> {
    version.split('.').nth(1)?.parse().ok()
}

/// The variables by which ONNX Runtime is told to collect nothing: its packages of 2026 for Linux and macOS otherwise write
/// a device id and events below the user's cache folder and send them, before any call could forbid it.
const SILENCE: [&str; 2] = ["ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED"];

/// Forbids ONNX Runtime's telemetry, for this process and those it starts.
///
/// # Safety
/// No other thread runs, or none that reads the environment other than through the standard library.
pub unsafe fn silence() {
    for name in SILENCE {
        if std::env::var_os(name).is_none() {
            // SAFETY: the caller's promise.
            unsafe { std::env::set_var(name, "1") };
        }
    }
}

fn open(path: &Path) -> Result<Environment, String> {
    // SAFETY: the program has done this before it started a thread, and then nothing is written here; other programs
    // (tests, benchmarks) read the environment through the standard library.
    unsafe { silence() };
    let builder = ort::init_from(path).map_err(|e| e.to_string())?;
    let environment = builder.with_name("fracture").with_telemetry(false).build();
    environment.map_err(|e| format!("{} was loaded but gave no environment: {e}", path.display()))
}

/// The version from the library's build information (`git-branch=rel-1.31.1`).
fn build_version() -> Option<String> {
    let (_, rest) = ort::info().split_once("git-branch=rel-")?;
    rest.split(|c: char| !(c.is_ascii_digit() || c == '.'))
        .next()
        .filter(|v| !v.is_empty())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests;
