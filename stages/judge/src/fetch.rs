//! Fetching the ONNX Runtime library from the Python package index, once, into the user's cache folder.
//!
//! The wheel is asked for by name and version through the user's own package client, so their index, proxy and certificates
//! apply. What comes back must have the pinned SHA-256; only the library is taken out of it, checked again, and put into
//! place by a rename, so that two processes may fetch at the same time.

use std::fmt::Write as _;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::runtime::Note;

const VERSION: &str = "1.31.1";

/// A wheel of the pinned version for one platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package {
    /// The name of the platform in the cache folder.
    platform: &'static str,
    /// The tag that the package client is asked for.
    tag: &'static str,
    wheel_sha256: &'static str,
    library: &'static str,
    library_sha256: &'static str,
    library_bytes: u64,
}

const PACKAGES: [Package; 3] = [
    Package {
        platform: "linux-x86_64",
        tag: "manylinux_2_28_x86_64",
        wheel_sha256: "74a6a52994616c4d18b33db1e13c226333a70a6ba07480a5cab9c2a50dff1430",
        library: "libonnxruntime.so.1.31.1",
        library_sha256: "fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3",
        library_bytes: 29_352_200,
    },
    Package {
        platform: "linux-aarch64",
        tag: "manylinux_2_28_aarch64",
        wheel_sha256: "dcaedc50333876f3829ab966b242147f0e548229e29c36fe44622ecf748c25ee",
        library: "libonnxruntime.so.1.31.1",
        library_sha256: "8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467",
        library_bytes: 25_265_040,
    },
    Package {
        platform: "macos-aarch64",
        tag: "macosx_14_0_arm64",
        wheel_sha256: "e4ad067d36e2220218e085d7223283b2ee1bc73d887e811fd14d21cf901a11ee",
        library: "libonnxruntime.1.31.1.dylib",
        library_sha256: "07fde7652b628c2c744155cf49020f368ddf5e1e13fc17817d1350514446bef8",
        library_bytes: 33_037_336,
    },
];

/// The package clients, in the order they are tried.
const CLIENTS: [&[&str]; 3] = [&["python3", "-m", "pip"], &["pip3"], &["pip"]];

impl Package {
    /// The wheel for the machine this runs on, if one is pinned.
    pub fn for_this_platform() -> Option<Self> {
        let platform = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
        PACKAGES.into_iter().find(|package| package.platform == platform)
    }

    /// The pinned version of ONNX Runtime.
    pub fn version(&self) -> &'static str {
        VERSION
    }

    fn target(&self, cache: &Path) -> PathBuf {
        cache.join(format!("{VERSION}-{}", self.platform)).join(self.library)
    }

    /// The library in the cache folder, when it is there and whole (by size; the digest was checked when it was put there).
    ///
    /// # Errors
    /// Says in a sentence what was found instead.
    pub fn cached(&self, cache: &Path) -> Result<PathBuf, String> {
        let path = self.target(cache);
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.len() == self.library_bytes => Ok(path),
            Ok(metadata) => Err(format!(
                "{} has {} bytes instead of {}",
                path.display(),
                metadata.len(),
                self.library_bytes
            )),
            Err(_) => Err(format!("no {}", path.display())),
        }
    }
}

/// Fetches the library into the cache folder. `None` when that failed; why goes into `tried`.
pub(crate) fn install(
    package: &Package,
    cache: &Path,
    tried: &mut Vec<String>,
    note: &mut dyn FnMut(Note),
) -> Option<PathBuf> {
    for client in CLIENTS {
        let shown = client.join(" ");
        let folder = match std::fs::create_dir_all(cache)
            .and_then(|()| tempfile::Builder::new().prefix(".fetch-").tempdir_in(cache))
        {
            Ok(folder) => folder,
            Err(e) => {
                tried.push(format!("cannot write to the cache folder {}: {e}", cache.display()));
                return None;
            }
        };
        let mut announce = || {
            note(Note::Fetching {
                version: VERSION.to_owned(),
                client: shown.clone(),
            })
        };
        match download(package, client, folder.path(), &mut announce)
            .and_then(|wheel| unpack(package, &wheel, folder.path(), cache))
        {
            Ok(path) => {
                note(Note::Fetched {
                    version: VERSION.to_owned(),
                    into: path.clone(),
                });
                return Some(path);
            }
            Err(cause) => tried.push(format!("`{shown} download onnxruntime=={VERSION}`: {cause}")),
        }
    }
    None
}

/// Asks the package client for the wheel; returns its path.
fn download(package: &Package, client: &[&str], folder: &Path, announce: &mut dyn FnMut()) -> Result<PathBuf, String> {
    let (program, arguments) = client.split_first().ok_or("no client")?;
    let start = |arguments: &[&str]| {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .current_dir(folder)
            .output()
            .map_err(|e| format!("{program}: {e}"))
    };
    // A client that is not there costs no announcement.
    let known = start(&[arguments, &["--version"][..]].concat())?;
    if !known.status.success() {
        return Err(last_line(&known.stderr));
    }
    announce();
    let wanted = format!("onnxruntime=={VERSION}");
    let options = [
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--platform",
        package.tag,
        "--python-version",
        "3.13",
    ];
    let quiet = [
        "--disable-pip-version-check",
        "--no-input",
        "--quiet",
        "--retries",
        "2",
        "--timeout",
        "20",
        "-d",
        ".",
        &wanted,
    ];
    let output = start(&[arguments, &options[..], &quiet[..]].concat())?;
    if !output.status.success() {
        return Err(last_line(&output.stderr));
    }
    let entries = std::fs::read_dir(folder).map_err(|e| e.to_string())?;
    let mut wheels = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "whl"));
    wheels
        .next()
        .ok_or_else(|| "the client reported success but left no wheel".to_owned())
}

fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line = text
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or("it failed without a word");
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Checks the wheel, takes the library out and renames it into the cache folder.
fn unpack(package: &Package, wheel: &Path, folder: &Path, cache: &Path) -> Result<PathBuf, String> {
    let bytes = std::fs::read(wheel).map_err(|e| e.to_string())?;
    check("the wheel", &bytes, package.wheel_sha256)?;
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|e| format!("the wheel: {e}"))?;
    let name = format!("onnxruntime/capi/{}", package.library);
    let entry = archive
        .by_name(&name)
        .map_err(|e| format!("the wheel has no {name}: {e}"))?;
    let mut library = Vec::new();
    entry
        .take(package.library_bytes + 1)
        .read_to_end(&mut library)
        .map_err(|e| format!("{name}: {e}"))?;
    check("the library", &library, package.library_sha256)?;
    let written = folder.join(package.library);
    let target = package.target(cache);
    let place = || {
        std::fs::write(&written, &library)?;
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::rename(&written, &target)
    };
    place().map_err(|e| format!("cannot write {}: {e}", target.display()))?;
    Ok(target)
}

fn check(what: &str, bytes: &[u8], expected: &str) -> Result<(), String> {
    let mut found = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        let _ = write!(found, "{byte:02x}");
    }
    if found == expected {
        return Ok(());
    }
    Err(format!(
        "{what} has SHA-256 {found} instead of {expected}; it was thrown away"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_digest_is_refused() {
        // SHA-256 of the empty string, FIPS 180-4.
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(check("it", b"", empty), Ok(()));
        assert!(check("it", b"x", empty).is_err_and(|e| e.contains("thrown away")));
    }

    #[test]
    fn the_last_line_of_a_client_is_kept_without_control_characters() {
        assert_eq!(last_line(b"one\n\x1b[31mtwo\n\n"), "[31mtwo");
        assert_eq!(last_line(b""), "it failed without a word");
    }
}
