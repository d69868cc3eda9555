//! What belongs to the user and not to a project.

use std::path::PathBuf;

/// The folder `fracture` of the user's cache: below `XDG_CACHE_HOME` where that is an absolute path, else below `.cache` of
/// the home folder, which without `HOME` is the one that the system knows of the user; `None` when there is none.
pub fn user_cache() -> Option<PathBuf> {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = named.filter(|path| path.is_absolute()).or_else(|| {
        std::env::home_dir()
            .filter(|home| home.is_absolute())
            .map(|home| home.join(".cache"))
    });
    cache.map(|cache| cache.join("fracture"))
}
