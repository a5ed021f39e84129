//! The compressions that archives and layers come in.

use std::io::{self, BufReader, Read};

use flate2::read::MultiGzDecoder;

/// How far back a zstd stream may refer, as a power of two: 128 MiB, as the command `zstd` allows.
/// That much memory unpacking may need.
const LARGEST_ZSTD_WINDOW: u32 = 27;

/// A compression, by the first bytes of what it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// The one that every registry's client unpacks.
    Gzip,
    /// Of layers, newer clients unpack it.
    Zstd,
    /// No client unpacks a layer in it.
    Xz,
    /// No client unpacks a layer in it.
    Bzip2,
}

impl Compression {
    /// How many of the first bytes [`Self::of`] looks at.
    pub const LONGEST_MAGIC: usize = 10;

    /// The compression of what starts with these bytes; `None` if it is in none of these.
    ///
    /// Sources: RFC 1952; RFC 8878, sections 3.1.1 and 3.1.2; the file formats of xz and bzip2.
    pub fn of(start: &[u8]) -> Option<Self> {
        match start {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            // The second is a frame to be skipped, with which pzstd begins.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            // Of a block, or of the end of nothing.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => {
                Some(Self::Bzip2)
            }
            _ => None,
        }
    }

    /// Its name, which is that of its command.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        }
    }

    /// What a stream unpacks to; `None` if layergate does not unpack this compression.
    pub fn unpack<'a>(self, stream: impl Read + 'a) -> io::Result<Option<Box<dyn Read + 'a>>> {
        let stream = BufReader::new(stream);
        Ok(match self {
            Self::Gzip => Some(Box::new(MultiGzDecoder::new(stream))),
            Self::Zstd => {
                let mut unpacked = zstd::stream::read::Decoder::with_buffer(stream)?;
                unpacked.window_log_max(LARGEST_ZSTD_WINDOW)?;
                Some(Box::new(unpacked))
            }
            Self::Xz | Self::Bzip2 => None,
        })
    }
}
