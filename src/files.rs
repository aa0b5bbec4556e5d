//! Files that are written whole or not at all.

use crate::error::{Error, Result};
use std::io::Write;
use std::path::Path;

/// Writes `bytes` to `path` through a nameless file in the same folder that takes the name when all of it is on disk. Whatever
/// happens before that (a full disk, a crash) leaves what was at `path` as it was.
///
/// # Errors
/// The system's, with `path`.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    replace(path.as_ref(), bytes, true)
}

/// As [`write_atomic`], but does not wait for the disk: nobody ever reads half of it while the system runs, yet after a power cut the
/// file may be damaged. For what can be told to be damaged and made anew.
///
/// # Errors
/// The system's, with `path`.
pub fn write_unsynced(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    replace(path.as_ref(), bytes, false)
}

/// Refuses an output that is the file which is being read, under whatever name.
///
/// # Errors
/// Of usage, naming `option`.
pub fn not_over(input: &Path, output: &Path, option: &str) -> Result<()> {
    match (input.canonicalize(), output.canonicalize()) {
        (Ok(a), Ok(b)) if a == b => {
            Err(Error::usage(format!("{option} {}: is the file that is read, which would be lost", output.display())))
        }
        _ => Ok(()),
    }
}

/// Makes a folder and those it lies in, unless it is there.
///
/// # Errors
/// The system's, with `path`; a link to nothing is named with where it leads.
pub fn make_folder(path: &Path) -> Result<()> {
    not_dangling(path)?;
    if path.exists() && !path.is_dir() {
        return Err(Error::config(path.display().to_string(), "it is a file, not a folder"));
    }
    std::fs::create_dir_all(path).map_err(|e| Error::io(path, e))
}

/// What the system says of a link to nothing is that there is no such file, or that there is one already.
fn not_dangling(path: &Path) -> Result<()> {
    match std::fs::read_link(path) {
        Ok(target) if !path.exists() => {
            let what = format!("is a link to {}, which is not there", target.display());
            Err(Error::io(path, std::io::Error::new(std::io::ErrorKind::NotFound, what)))
        }
        _ => Ok(()),
    }
}

fn replace(path: &Path, bytes: &[u8], sync: bool) -> Result<()> {
    let io = |e| Error::io(path, e);
    if path.exists() && !path.is_file() {
        let what =
            if path.is_dir() { "is a folder" } else { "is a device or a pipe; only files are written, whole or not at all" };
        return Err(Error::io(path, std::io::Error::other(what)));
    }
    // The folder would let the file be replaced all the same.
    if path.metadata().is_ok_and(|m| m.permissions().readonly()) {
        return Err(io(std::io::Error::new(std::io::ErrorKind::PermissionDenied, "is read-only")));
    }
    not_dangling(path)?;
    // A link stays one: what it leads to is replaced.
    let target = if path.is_symlink() { path.canonicalize().map_err(io)? } else { path.to_path_buf() };
    let dir = folder_of(&target);
    let mut builder = tempfile::Builder::new();
    // Temporary files are private by default; this one is to have the permissions of any new file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    // What `tempfile` itself reports names the temporary file, which says nothing to anybody: hence the plain kind, the plain file.
    let file = builder.tempfile_in(dir).map_err(|e| match dir.is_dir() {
        true => io(e.kind().into()),
        false => io(std::io::Error::new(e.kind(), format!("there is no folder {}", dir.display()))),
    })?;
    file.as_file().write_all(bytes).map_err(io)?;
    if sync {
        file.as_file().sync_all().map_err(io)?;
    }
    file.persist(&target).map_err(|e| io(e.error))?;
    // The name itself is on disk only when the folder is; systems that cannot sync a folder have nothing to do here.
    if let (true, Ok(folder)) = (sync, std::fs::File::open(dir)) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// The folder that holds `path`.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

/// The text of a file.
///
/// # Errors
/// The system's, or the first byte that is not UTF-8.
pub fn read_text(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    String::from_utf8(bytes)
        .map_err(|e| Error::format(path, e.utf8_error().valid_up_to() as u64, "not a text file: this byte is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        write_atomic(&path, b"old").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(read_text(&path).unwrap(), "new");
        assert!(
            write_atomic(dir.path().join("none/a.txt"), b"x")
                .unwrap_err()
                .to_string()
                .contains("none/a.txt: there is no folder ")
        );
        // A folder stands where the file should: nothing is left beside it.
        std::fs::create_dir(dir.path().join("b")).unwrap();
        assert!(write_atomic(dir.path().join("b"), b"x").is_err());
        not_over(&path, &dir.path().join("c"), "--png").unwrap();
        assert!(not_over(&path, &dir.path().join("./a.txt"), "--png").is_err());
        #[cfg(unix)]
        {
            let link = dir.path().join("link");
            std::os::unix::fs::symlink(&path, &link).unwrap();
            write_atomic(&link, b"through").unwrap();
            assert!(link.is_symlink() && read_text(&path).unwrap() == "through");
            let dangling = dir.path().join("dangling");
            std::os::unix::fs::symlink("gone/c.txt", &dangling).unwrap();
            let said = write_atomic(&dangling, b"x").unwrap_err().to_string();
            assert_eq!(said, format!("{}: is a link to gone/c.txt, which is not there", dangling.display()));
            assert!(dangling.is_symlink());
            std::fs::remove_file(dangling).unwrap();
            let said = write_atomic("/dev/null", b"x").unwrap_err().to_string();
            assert!(said.contains("device or a pipe"), "{said}");
            std::fs::remove_file(link).unwrap();
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        std::fs::write(&path, b"ab\xff").unwrap();
        assert!(read_text(&path).unwrap_err().to_string().contains("byte 2"));
    }
}
