//! Tar archives: which files they hold, and where. An archive is never unpacked, and read once. It
//! may be hostile: the memory for it does not grow with what it says of itself.
//!
//! Sources: [POSIX, pax, "ustar Interchange Format" and "pax Extended
//! Header"](https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html), [GNU tar, "Basic
//! Tar Format"](https://www.gnu.org/software/tar/manual/html_node/Standard.html). What they leave
//! open is read as Go's `archive/tar` does, with which docker reads.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use tar::{EntryType, Header};

use super::files::{normalize, unreadable};
use crate::error::Error;

/// A block: the size of a header, and what the size of each file is rounded up to.
const BLOCK: u64 = 512;

/// The largest entry that extends the next one's header, in bytes.
const LARGEST_EXTENSION: u64 = 1024 * 1024;

/// The most bytes of all names together, each entry counted with 100 more. They are in memory.
const LARGEST_NAMES: usize = 32 * 1024 * 1024;

/// How many links to links are followed.
const LONGEST_LINK_CHAIN: usize = 8;

/// An archive, and where its files are.
#[derive(Debug)]
pub struct Archive {
    file: Arc<File>,
    /// By normalized name.
    entries: HashMap<String, Entry>,
}

#[derive(Debug)]
enum Entry {
    /// A file's bytes, within the archive.
    File { offset: u64, size: u64 },
    /// Another entry's name.
    Link(String),
}

/// A file within an archive. It has a place of its own, so that several can be read at once.
#[derive(Debug)]
pub struct Section {
    archive: Arc<File>,
    offset: u64,
    left: u64,
}

impl Section {
    /// How many bytes are left to be read.
    pub fn left(&self) -> u64 {
        self.left
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.archive.read_at(&mut buffer[..wanted], self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

impl Archive {
    /// Reads which files an archive holds. `name` is for error sentences.
    pub fn read(name: &str, file: File) -> Result<Self, Error> {
        let length = file.metadata().map_err(|error| unreadable(name, &error))?.len();
        let file = Arc::new(file);
        let mut reader = Reader { name, file: &file, length, at: 0 };
        let (mut entries, mut names) = (HashMap::new(), 0);
        while let Some((name_in_archive, entry)) = reader.next()? {
            let target = match &entry {
                Entry::Link(target) => target.len(),
                Entry::File { .. } => 0,
            };
            names += 100 + name_in_archive.len() + target;
            if names > LARGEST_NAMES {
                return Err(Error::Source(format!(
                    "{name} holds more files than any image has; it is not to be trusted"
                )));
            }
            entries.insert(name_in_archive, entry); // as with tar, the last entry of a name counts
        }
        Ok(Self { file, entries })
    }

    /// The file with a normalized name; `None` if there is none. `source` is for error sentences.
    pub fn open(&self, name: &str, source: &str) -> Result<Option<Section>, Error> {
        let name = self.resolve(name, source)?;
        Ok(match self.entries.get(name) {
            Some(Entry::File { offset, size }) => {
                Some(Section { archive: self.file.clone(), offset: *offset, left: *size })
            }
            _ => None,
        })
    }

    /// The normalized name that links lead to.
    pub fn resolve<'a>(&'a self, name: &'a str, source: &str) -> Result<&'a str, Error> {
        let mut found = name;
        for _ in 0..LONGEST_LINK_CHAIN {
            match self.entries.get(found) {
                Some(Entry::Link(target)) => found = target,
                _ => return Ok(found),
            }
        }
        Err(Error::Source(format!("the entry '{name}' in {source} is a link that leads nowhere")))
    }
}

/// Reads an archive's entries, one after the other.
struct Reader<'a> {
    name: &'a str,
    file: &'a File,
    length: u64,
    /// Where the next header is.
    at: u64,
}

/// What the entries before an entry say of it.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    is_sparse: bool,
}

impl Reader<'_> {
    /// The next file or link, by its normalized name; `None` at the end.
    fn next(&mut self) -> Result<Option<(String, Entry)>, Error> {
        let mut extensions = Extensions::default();
        while let Some(header) = self.header()? {
            let kind = header.entry_type();
            // A header's own size is not read where it does not count: there may be anything.
            let size = match extensions.size {
                _ if has_no_content(kind) => 0,
                Some(size) => size,
                None => header.entry_size().map_err(|_| self.damaged())?,
            };
            let offset = self.at;
            let padded = size.checked_next_multiple_of(BLOCK);
            let end = padded.and_then(|size| offset.checked_add(size));
            self.at = end.ok_or_else(|| self.damaged())?;
            match kind {
                EntryType::GNULongName => extensions.path = Some(self.text(offset, size)?),
                EntryType::GNULongLink => extensions.link = Some(self.text(offset, size)?),
                EntryType::XHeader => self.extend(&mut extensions, offset, size)?,
                EntryType::XGlobalHeader => {} // about all entries: who made the archive, and why
                _ => {
                    if let Some(found) = self.entry(&header, &extensions, (offset, size))? {
                        return Ok(Some(found));
                    }
                    extensions = Extensions::default();
                }
            }
        }
        Ok(None)
    }

    /// The next header; `None` at the end.
    fn header(&mut self) -> Result<Option<Header>, Error> {
        let mut header = Header::new_old();
        let left = self.length.saturating_sub(self.at);
        if left == 0 {
            return Ok(None);
        }
        if left < BLOCK {
            return Err(self.damaged());
        }
        self.read_at(header.as_mut_bytes(), self.at)?;
        let bytes = header.as_bytes();
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        // Of the checksum itself, which is in bytes 148 to 155, each byte counts as a space.
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        let sum = sum(&bytes[..148]) + 8 * u32::from(b' ') + sum(&bytes[156..]);
        if header.cksum().ok() != Some(sum) {
            return Err(self.damaged());
        }
        self.at += BLOCK;
        Ok(Some(header))
    }

    /// What an entry is; `None` if it is neither a file nor a link.
    fn entry(
        &self,
        header: &Header,
        extensions: &Extensions,
        (offset, size): (u64, u64),
    ) -> Result<Option<(String, Entry)>, Error> {
        let path = extensions.path.as_deref().map_or_else(|| header.path_bytes(), Into::into);
        let path = Path::new(OsStr::from_bytes(&path));
        let key = normalize(path, self.name)?;
        let kind = header.entry_type();
        let entry = match kind {
            EntryType::GNUSparse => return Err(self.sparse(&key)),
            EntryType::Regular | EntryType::Continuous if extensions.is_sparse => {
                return Err(self.sparse(&key));
            }
            EntryType::Regular | EntryType::Continuous => {
                if offset + size > self.length {
                    return Err(Error::Source(format!(
                        "{} is truncated: it ends within '{key}'; get it whole",
                        self.name
                    )));
                }
                Entry::File { offset, size }
            }
            EntryType::Symlink | EntryType::Link => {
                let own = header.link_name_bytes().unwrap_or_default();
                let target = extensions.link.as_deref().unwrap_or(&own);
                // A symbolic link starts at its own directory, a hard link at the archive's root.
                let from = if kind == EntryType::Symlink { path.parent() } else { None };
                let target = from.unwrap_or(Path::new("")).join(OsStr::from_bytes(target));
                Entry::Link(normalize(&target, self.name)?)
            }
            _ => return Ok(None), // directories, and what no image is made of
        };
        Ok(Some((key, entry)))
    }

    /// Reads what a pax header says of the next entry: records of the form `LENGTH NAME=VALUE\n`,
    /// whose length counts all of that.
    fn extend(&self, extensions: &mut Extensions, offset: u64, size: u64) -> Result<(), Error> {
        let bytes = self.extension(offset, size)?;
        let mut rest = &bytes[..];
        // Some writers fill up with zeros.
        while rest.first().is_some_and(|byte| *byte != 0) {
            let (record, after) = next_record(rest).ok_or_else(|| self.damaged())?;
            rest = after;
            match record {
                (b"path", value) => extensions.path = Some(value.to_vec()),
                (b"linkpath", value) => extensions.link = Some(value.to_vec()),
                (b"size", value) => {
                    let digits = str::from_utf8(value).ok().filter(|value| is_number(value));
                    let size = digits.and_then(|digits| digits.parse().ok());
                    extensions.size = Some(size.ok_or_else(|| self.damaged())?);
                }
                (name, _) => extensions.is_sparse |= name.starts_with(b"GNU.sparse."),
            }
        }
        Ok(())
    }

    /// Reads a name, which ends with a zero.
    fn text(&self, offset: u64, size: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = self.extension(offset, size)?;
        let end = bytes.iter().position(|byte| *byte == 0);
        bytes.truncate(end.unwrap_or(bytes.len()));
        Ok(bytes)
    }

    fn extension(&self, offset: u64, size: u64) -> Result<Vec<u8>, Error> {
        if size > LARGEST_EXTENSION {
            return Err(Error::Source(format!(
                "{} holds a header of {size} bytes; it is not to be trusted",
                self.name
            )));
        }
        if offset + size > self.length {
            return Err(self.damaged());
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        self.read_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
        self.file.read_exact_at(buffer, offset).map_err(|error| unreadable(self.name, &error))
    }

    fn damaged(&self) -> Error {
        Error::Source(format!(
            "{} is not an intact tar archive; it must be an OCI layout, an OCI archive or the output of docker save",
            self.name
        ))
    }

    fn sparse(&self, key: &str) -> Error {
        Error::Source(format!(
            "{} holds the sparse file '{key}'; make the archive without --sparse",
            self.name
        ))
    }
}

/// Whether nothing follows a header, whatever it says of its size.
fn has_no_content(kind: EntryType) -> bool {
    matches!(
        kind,
        EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Directory
            | EntryType::Fifo
    )
}

/// A record of a pax header: its key and its value.
type Record<'a> = (&'a [u8], &'a [u8]);

/// The first record of a pax header, as its name and its value, and what comes after it.
fn next_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let digits = str::from_utf8(&bytes[..space]).ok().filter(|digits| is_number(digits))?;
    let length = digits.parse().ok().filter(|length| *length > space && *length <= bytes.len())?;
    let (record, rest) = bytes.split_at(length);
    let record = record[space + 1..].strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some(((&record[..equals], &record[equals + 1..]), rest))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
