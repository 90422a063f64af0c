//! Files that are there whole or not at all, also after a loss of power.
//!
//! The content goes to a new file in the same folder and to the disk; then that file gets the name, and the folder goes to the
//! disk. So a reader sees the old file or the new one, and what [`replace`] or [`create`] has returned for stays. Several processes may
//! write one file: one of them is the last.
//!
//! # After a crash
//! A process that is killed while it writes leaves the new file behind under a name of its own, `.NAME.….new`, which nobody reads.
//! [`tidy`] removes such files when the host starts.

use crate::blocking;
use std::ffi::OsStr;
use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use tempfile::NamedTempFile;

/// What the name of a file that is being written ends with.
const UNFINISHED: &str = ".new";

/// Writes a file, in the place of the one of this name if there is one. Anybody may read it, as far as the umask allows.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    blocking::run(|| {
        unfinished(path, bytes)?.persist(path)?;
        sync(folder_of(path))
    })
}

/// Writes a file that is not there yet; [`ErrorKind::AlreadyExists`] if it is, and then it stays as it was.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    blocking::run(|| {
        unfinished(path, bytes)?.persist_noclobber(path)?;
        sync(folder_of(path))
    })
}

/// Makes a folder if it is not there, with those that it is in: each is on the disk when this returns. Others may read there, and not
/// write.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    blocking::run(|| make_folders(folder))
}

fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    make_folders(folder_of(folder))?;
    match DirBuilder::new().mode(0o755).create(folder) {
        // Somebody else was faster; a file in the way is an error.
        Err(error) if error.kind() != ErrorKind::AlreadyExists || !folder.is_dir() => Err(error),
        _ => sync(folder_of(folder)),
    }
}

/// Removes what writers that were killed have left in a folder, and in all folders in it. What somebody is writing stays. What can't be
/// removed stays too, is in nobody's way, and is logged.
pub(crate) fn tidy(folder: &Path) {
    blocking::run(|| tidy_all(folder, &|path| std::fs::remove_file(path)));
}

/// `remove` is what the system does to remove a file.
fn tidy_all(folder: &Path, remove: &impl Fn(&Path) -> io::Result<()>) {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(path = %folder.display(), %error, "unfinished files can't be looked for");
            return;
        }
    };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => tidy_all(&path, remove),
            Ok(kind) if kind.is_file() && is_unfinished(&path) => {
                if let Err(error) = remove_unless_in_use(&path, remove) {
                    tracing::warn!(path = %path.display(), %error, "an unfinished file can't be removed");
                }
            }
            _ => {}
        }
    }
}

fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str);
    name.is_some_and(|name| name.starts_with('.') && name.ends_with(UNFINISHED))
}

fn remove_unless_in_use(path: &Path, remove: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    match File::open(path)?.try_lock() {
        Ok(()) => remove(path),
        Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The file under a name of its own, on the disk. Whoever writes holds its lock, which ends with the process.
fn unfinished(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let name = path.file_name().ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    let mut file = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(UNFINISHED)
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder_of(path))?;
    file.as_file().lock()?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn names(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        replace(&path, b"a longer text").unwrap();
        replace(&path, b"short").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
        assert_eq!(names(folder.path()), ["a.json"]);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o133, 0, "others may read it, and not write: {mode:o}");
    }

    #[test]
    fn a_file_that_is_there_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.epoch");
        create(&path, b"first").unwrap();
        assert_eq!(create(&path, b"second").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(names(folder.path()), ["1.epoch"]);
    }

    #[test]
    fn what_can_not_be_written_leaves_everything_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(replace(&folder.path().join("no/a"), b"").unwrap_err().kind(), ErrorKind::NotFound);
        // A folder of this name is in the way.
        let path = folder.path().join("a");
        std::fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"text").is_err());
        assert!(replace(Path::new("/"), b"text").is_err());
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn folders_are_made_with_those_that_they_are_in() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b/c");
        make_folder(&inner).unwrap();
        make_folder(&inner).unwrap();
        assert!(inner.is_dir());
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert_eq!(make_folder(&folder.path().join("file")).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert!(make_folder(&folder.path().join("file/a")).is_err());
    }

    #[test]
    fn what_a_killed_writer_left_is_removed_and_what_is_being_written_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("certificates/Genoa");
        make_folder(&inner).unwrap();
        let left = [folder.path().join(".status.json.Ab3.new"), inner.join(".vcek.der.x.new")];
        for path in &left {
            std::fs::write(path, "half a fi").unwrap();
        }
        let others = [folder.path().join("mine.new"), inner.join(".hidden")];
        for path in &others {
            std::fs::write(path, "").unwrap();
        }
        let being_written = unfinished(&folder.path().join("b"), b"b").unwrap();
        tidy(folder.path());
        assert!(left.iter().all(|path| !path.exists()));
        assert!(others.iter().all(|path| path.exists()), "somebody else's");
        being_written.persist(folder.path().join("b")).unwrap();
    }

    #[test]
    fn what_can_not_be_removed_keeps_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("transcripts");
        make_folder(&inner).unwrap();
        let left = |number: u8| {
            [folder.path(), inner.as_path()][usize::from(number % 2)].join(format!(".{number}.new"))
        };
        (0..6).for_each(|number| std::fs::write(left(number), "half a fi").unwrap());
        let stays = [left(2), left(3)];
        tidy_all(folder.path(), &|path: &Path| match stays.iter().any(|stays| stays == path) {
            true => Err(ErrorKind::PermissionDenied.into()),
            false => std::fs::remove_file(path),
        });
        assert_eq!(
            (names(folder.path()), names(&inner)),
            (vec![".2.new".to_owned(), "transcripts".to_owned()], vec![".3.new".to_owned()],)
        );
        tidy(&folder.path().join("none"));
    }

    #[test]
    fn several_writers_leave_one_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::thread::scope(|scope| {
            for text in [[b'a'; 5_000], [b'b'; 5_000]] {
                let path = &path;
                scope.spawn(move || (0..20).for_each(|_| replace(path, &text).unwrap()));
            }
        });
        let found = std::fs::read(&path).unwrap();
        assert!(found == [b'a'; 5_000] || found == [b'b'; 5_000]);
        assert_eq!(names(folder.path()), ["a"]);
    }

    /// Where else a file is written, and why not by this module.
    const OTHERS: [(&str, &str); 11] = [
        ("certificates/folder.rs", "a whole folder at a time"),
        ("daemon/commands.rs", "puts a file aside that is there already"),
        ("demo/dao.rs", "secret keys, of a demo"),
        ("demo/mod.rs", "a demo's files"),
        ("demo/processes.rs", "a demo's files"),
        ("image/mod.rs", "the output of a build, which is made again"),
        ("measure/command.rs", "the output of a build, which is made again"),
        ("presence.rs", "a lock"),
        ("store/command.rs", "larger than memory, and never in the place of another"),
        ("store/sqlite.rs", "a lock"),
        ("vm/mod.rs", "a socket, once it can be used"),
    ];

    #[test]
    fn no_other_module_writes_whole_files() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut writers = Vec::new();
        visit(&root, &mut |path| {
            let text = std::fs::read_to_string(path).unwrap();
            // Tests may.
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let words = [
                "File::create",
                "fs::write(",
                "fs::rename(",
                "create_new(true)",
                "NamedTempFile",
                "tempfile_in",
            ];
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            let is_test = name.contains("tests") || name.contains("test_");
            if !is_test && name != "whole_file.rs" && words.iter().any(|word| code.contains(word)) {
                writers.push(name);
            }
        });
        writers.sort_unstable();
        assert_eq!(writers, OTHERS.map(|(name, _)| name));
    }

    fn visit(folder: &Path, file: &mut impl FnMut(&PathBuf)) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, file);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                file(&path);
            }
        }
    }
}
