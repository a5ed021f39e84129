//! The files of a source, whether they are in a directory or in an archive, which is never unpacked.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use tar::EntryType;

use crate::error::Error;

/// The largest JSON file that is read: the limit of most registries for a manifest.
const LARGEST_JSON: u64 = 4 * 1024 * 1024;

/// The largest entry of an archive that extends the next one's header, in bytes.
const LARGEST_EXTENSION: u64 = 1024 * 1024;

/// How many links to links are followed.
const LONGEST_LINK_CHAIN: usize = 8;

/// The files below a directory, or in a tar archive.
#[derive(Debug)]
pub struct Files {
    path: PathBuf,
    /// What an archive holds, by normalized name; `None` for a directory.
    entries: Option<HashMap<String, Entry>>,
}

#[derive(Debug)]
enum Entry {
    /// A file's bytes, within the archive.
    File { offset: u64, size: u64 },
    /// Another entry's name.
    Link(String),
}

impl Files {
    /// Opens a directory, or reads the list of an archive.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let metadata = path.metadata().map_err(|error| unreadable(path, &error))?;
        let entries = if metadata.is_dir() { None } else { Some(read_archive(path)?) };
        Ok(Self { path: path.to_owned(), entries })
    }

    /// Where they are, for error sentences.
    pub fn path(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    /// A file's size in bytes; `None` if there is no such file.
    pub fn size(&self, name: &str) -> Result<Option<u64>, Error> {
        match &self.entries {
            Some(entries) => Ok(self.resolve(entries, name)?.map(|(_, size)| size)),
            None => {
                let path = self.path.join(normalize(Path::new(name), &self.path)?);
                match path.metadata() {
                    // Links are followed, as some tools make layouts of them; a device would never end.
                    Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
                    Ok(_) => Ok(None),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(unreadable(&path, &error)),
                }
            }
        }
    }

    /// Opens a file, or says that it is missing.
    pub fn open_file(&self, name: &str) -> Result<Box<dyn Read + Send>, Error> {
        let missing = || Error::Source(format!("{} has no file '{name}'; it is incomplete", self.path()));
        let Some(entries) = &self.entries else {
            self.size(name)?.ok_or_else(missing)?;
            let path = self.path.join(name);
            return match File::open(&path) {
                Ok(file) => Ok(Box::new(file)),
                Err(error) => Err(unreadable(&path, &error)),
            };
        };
        let (offset, size) = self.resolve(entries, name)?.ok_or_else(missing)?;
        let open = || {
            let mut archive = File::open(&self.path)?;
            archive.seek(SeekFrom::Start(offset))?;
            Ok(archive)
        };
        let archive: File = open().map_err(|error| unreadable(&self.path, &error))?;
        Ok(Box::new(archive.take(size)))
    }

    /// Reads a whole JSON file into memory; `None` if there is no such file.
    pub fn read_json(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        match self.size(name)? {
            None => return Ok(None),
            Some(size) if size > LARGEST_JSON => {
                return Err(Error::Source(format!(
                    "the file '{name}' in {} has {size} bytes, more than the {LARGEST_JSON} of any manifest",
                    self.path()
                )));
            }
            Some(_) => {}
        }
        let mut bytes = Vec::new();
        let mut file = self.open_file(name)?.take(LARGEST_JSON);
        file.read_to_end(&mut bytes).map_err(|error| unreadable(&self.path, &error))?;
        Ok(Some(bytes))
    }

    fn resolve(&self, entries: &HashMap<String, Entry>, name: &str) -> Result<Option<(u64, u64)>, Error> {
        let mut name = normalize(Path::new(name), &self.path)?;
        for _ in 0..LONGEST_LINK_CHAIN {
            match entries.get(&name) {
                None => return Ok(None),
                Some(Entry::File { offset, size }) => return Ok(Some((*offset, *size))),
                Some(Entry::Link(target)) => name.clone_from(target),
            }
        }
        Err(Error::Source(format!("the entry '{name}' in {} is a link that leads nowhere", self.path())))
    }
}

/// The sentence for a file that the system does not let be read.
pub fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::Source(format!("cannot read {}: {error}", path.display()))
}

fn read_archive(path: &Path) -> Result<HashMap<String, Entry>, Error> {
    let mut file = File::open(path).map_err(|error| unreadable(path, &error))?;
    refuse_compressed(path, &mut file)?;
    let length = file.metadata().map_err(|error| unreadable(path, &error))?.len();
    let damaged = |error: io::Error| {
        Error::Source(format!(
            "{} is not an intact tar archive ({error}); it must be an OCI layout, an OCI archive or the output \
             of docker save",
            path.display()
        ))
    };

    // The library reads the entries that extend the next one's header whole, into memory.
    let mut archive = tar::Archive::new(&file);
    for entry in archive.entries_with_seek().map_err(damaged)?.raw(true) {
        let entry = entry.map_err(damaged)?;
        let kind = entry.header().entry_type();
        let is_extension = kind.is_gnu_longname()
            || kind.is_gnu_longlink()
            || kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions();
        if is_extension && entry.size() > LARGEST_EXTENSION {
            return Err(Error::Source(format!(
                "{} holds a header of {} bytes; it is not to be trusted",
                path.display(),
                entry.size()
            )));
        }
    }
    file.rewind().map_err(|error| unreadable(path, &error))?;

    let mut archive = tar::Archive::new(&file);
    let mut entries = HashMap::new();
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let name = entry.path().map_err(damaged)?.into_owned();
        let key = normalize(&name, path)?;
        let found = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                let (offset, size) = (entry.raw_file_position(), entry.size());
                if offset.checked_add(size).is_none_or(|end| end > length) {
                    return Err(Error::Source(format!(
                        "{} is truncated: it ends within '{key}'; get it whole",
                        path.display()
                    )));
                }
                Entry::File { offset, size }
            }
            kind @ (EntryType::Symlink | EntryType::Link) => {
                let target = entry.link_name().map_err(damaged)?.unwrap_or_default();
                // A symbolic link starts at its own directory, a hard link at the archive's root.
                let from = if kind == EntryType::Symlink { name.parent() } else { None };
                Entry::Link(normalize(&from.unwrap_or(Path::new("")).join(target), path)?)
            }
            EntryType::GNUSparse => {
                return Err(Error::Source(format!(
                    "{} holds the sparse file '{key}'; make the archive without --sparse",
                    path.display()
                )));
            }
            _ => continue, // directories, and what no image is made of
        };
        entries.insert(key, found); // as with tar, the last entry of a name counts
    }
    Ok(entries)
}

/// A file's name within its source, without `.` and `..`. Nothing is ever unpacked, but a source that names
/// what is outside of it is hostile or broken, and not to be trusted with the rest.
fn normalize(name: &Path, archive: &Path) -> Result<String, Error> {
    let mut parts: Vec<&str> = Vec::new();
    let outside = || {
        Error::Source(format!(
            "{} names a file that points outside of it, '{}'; it is not to be trusted",
            archive.display(),
            name.display()
        ))
    };
    for component in name.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_str().ok_or_else(|| {
                Error::Source(format!(
                    "{} holds a file whose name is not UTF-8, '{}'; no image has such a name",
                    archive.display(),
                    name.display()
                ))
            })?),
            Component::ParentDir => {
                parts.pop().ok_or_else(outside)?;
            }
            Component::RootDir | Component::Prefix(_) => return Err(outside()),
        }
    }
    Ok(parts.join("/"))
}

fn refuse_compressed(path: &Path, file: &mut File) -> Result<(), Error> {
    let mut start = [0; 6];
    let mut read = || {
        let count = file.read(&mut start)?;
        file.rewind()?;
        Ok(count)
    };
    let count = read().map_err(|error| unreadable(path, &error))?;
    let tool = match &start[..count] {
        [0x1f, 0x8b, ..] => "gunzip",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "unzstd",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "unxz",
        [b'B', b'Z', b'h', ..] => "bunzip2",
        _ => return Ok(()),
    };
    Err(Error::Source(format!("{} is compressed; decompress it first, with {tool}", path.display())))
}
