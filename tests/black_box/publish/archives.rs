//! Archives, as tar and other tools write them, and hostile ones.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use super::sources::{LAYER, refused};
use support::{Layout, Stack, assert_refused, sha256, stderr};

/// Writes an archive of a good layout, with one more entry.
fn archive_with(folder: &TempDir, name: &str, kind: EntryType, link: Option<&str>) -> PathBuf {
    let layout = Layout::of_layers(&[LAYER]);
    let path = folder.path().join("image.tar");
    let mut archive = Builder::new(File::create(&path).unwrap());
    let mut header = Header::new_gnu();
    // Not set_path: it refuses what these tests are about.
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    if let Some(link) = link {
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    }
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(0);
    header.set_cksum();
    archive.append(&header, std::io::empty()).unwrap();
    archive.append_dir_all(".", layout.path()).unwrap();
    archive.finish().unwrap();
    path
}

#[tokio::test]
async fn archives_that_point_outside_of_themselves_are_refused() {
    let cases = [
        ("a parent folder", "../evil", EntryType::Regular, None),
        ("a parent folder further down", "blobs/../../evil", EntryType::Regular, None),
        ("an absolute path", "/etc/evil", EntryType::Regular, None),
        ("a symbolic link out", "blobs/link", EntryType::Symlink, Some("../../etc/passwd")),
        ("an absolute symbolic link", "link", EntryType::Symlink, Some("/etc/passwd")),
        ("a hard link out", "link", EntryType::Link, Some("../passwd")),
    ];
    let stack = Stack::start().await;
    let folder = tempfile::tempdir().unwrap();
    for (description, name, kind, link) in cases {
        eprintln!("{description}");
        let archive = archive_with(&folder, name, kind, link);
        refused(&stack, &archive, &[], &["points outside"]).await;
    }
}

/// An entry: its header, and what follows it. The header says another size where `size` is given.
fn entry(kind: EntryType, name: &str, content: &[u8], size: Option<u64>) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size.unwrap_or(content.len() as u64));
    header.set_cksum();
    let mut entry = [header.as_bytes(), content].concat();
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

/// A record of a pax header, whose length counts its own digits.
fn record(name: &str, value: &str) -> String {
    let rest = format!(" {name}={value}\n");
    let length = (1..).find(|length| length.to_string().len() + rest.len() == *length).unwrap();
    format!("{length}{rest}")
}

/// The files of a layout with [`LAYER`].
fn files() -> Vec<(String, Vec<u8>)> {
    let layout = Layout::of_layers(&[LAYER]);
    let blobs = layout.contents().into_iter();
    let blobs = blobs.map(|(digest, bytes)| (format!("blobs/{}", digest.replace(':', "/")), bytes));
    let others = ["oci-layout", "index.json"]
        .map(|name| (name.to_owned(), fs::read(Path::new(&layout.path()).join(name)).unwrap()));
    blobs.chain(others).collect()
}

#[tokio::test]
async fn archives_of_all_formats_are_read() {
    use EntryType::{GNULongName, Regular, XGlobalHeader, XHeader};
    type Write = fn(&str, &[u8]) -> Vec<u8>;
    let cases: [(&str, Write); 7] = [
        ("the size in the pax header alone", |name, content| {
            let size = record("size", &content.len().to_string());
            [entry(XHeader, "x", size.as_bytes(), None), entry(Regular, name, content, Some(0))]
                .concat()
        }),
        ("another size in the header", |name, content| {
            let size = record("size", &content.len().to_string());
            [entry(XHeader, "x", size.as_bytes(), None), entry(Regular, name, content, Some(99))]
                .concat()
        }),
        ("the name in the pax header, after one with a line's end in it", |name, content| {
            let records = record("comment", "a\n13 size=1024\n") + &record("path", name);
            [entry(XHeader, "x", records.as_bytes(), None), entry(Regular, "other", content, None)]
                .concat()
        }),
        ("a pax header that is filled up with zeros", |name, content| {
            let path = record("path", name) + "\0\0\0";
            [entry(XHeader, "x", path.as_bytes(), None), entry(Regular, "other", content, None)]
                .concat()
        }),
        ("a global pax header", |name, content| {
            let size = record("size", "1");
            [entry(XGlobalHeader, "g", size.as_bytes(), None), entry(Regular, name, content, None)]
                .concat()
        }),
        ("the name in GNU's header", |name, content| {
            let long = [name.as_bytes(), b"\0"].concat();
            [
                entry(GNULongName, "././@LongLink", &long, None),
                entry(Regular, "other", content, None),
            ]
            .concat()
        }),
        ("a folder that says it has a size", |name, content| {
            [
                entry(EntryType::Directory, "folder", b"", Some(4096)),
                entry(Regular, name, content, None),
            ]
            .concat()
        }),
    ];
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar");
    for (description, write) in cases {
        let stack = Stack::start().await;
        let entries = files().into_iter().map(|(name, content)| write(&name, &content));
        for (end, what) in [(0, "no end"), (1024, "an end"), (10240, "a long end")] {
            let mut bytes = entries.clone().collect::<Vec<_>>().concat();
            bytes.resize(bytes.len() + end, 0);
            fs::write(&archive, bytes).unwrap();
            let publish = ["publish", "--create-repository", archive.to_str().unwrap(), "app:1"];
            let output = stack.layergate(&publish).await;
            assert!(output.status.success(), "{description}, {what}: {}", stderr(&output));
        }
        assert_eq!(stack.ask("app", &sha256(LAYER)).await.status, 200, "{description}");
    }
}

#[tokio::test]
async fn hostile_archives_are_refused() {
    use EntryType::{GNULongLink, GNULongName, Regular, XHeader};
    const HUGE: u64 = 1 << 30;
    let hidden = [
        entry(XHeader, "x", record("size", "1024").as_bytes(), None),
        entry(Regular, "zeros", &[0; 1024], Some(0)),
        entry(XHeader, "h", b"", Some(HUGE)),
    ];
    let pax = |records: &str| {
        [entry(XHeader, "x", records.as_bytes(), None), entry(Regular, "file", b"", None)].concat()
    };
    let header_of = "header of 1073741824 bytes";
    let long_name =
        record("path", &"n".repeat(1 << 20).replace("nnnnnnnnn", "nnnnnnnn/")[..1_048_000]);
    let numbered = (0..40).map(|n| {
        let name = long_name.replacen("nnnn", &format!("{n:04}"), 1);
        pax(&name)
    });
    let cases: [(&str, Vec<u8>, &str); 13] = [
        ("a long name", entry(GNULongName, "n", b"", Some(HUGE)), header_of),
        ("a long link", entry(GNULongLink, "n", b"", Some(HUGE)), header_of),
        ("a pax header", entry(XHeader, "n", b"", Some(HUGE)), header_of),
        ("a pax header behind zeros that are a file", hidden.concat(), header_of),
        ("a pax size that is none", pax(&record("size", "-1")), "not an intact tar"),
        (
            "a pax size that no number has",
            pax(&record("size", &"9".repeat(30))),
            "not an intact tar",
        ),
        ("a pax size beyond the end", pax(&record("size", "99999999999999")), "is truncated"),
        ("the largest pax size", pax(&record("size", &u64::MAX.to_string())), "not an intact tar"),
        ("a pax record longer than its header", pax("99 path=x\n"), "not an intact tar"),
        ("a pax record without a length", pax("path=x\n"), "not an intact tar"),
        ("a pax record shorter than itself", pax("1 path=x\n"), "not an intact tar"),
        ("a sparse file", pax(&record("GNU.sparse.major", "1")), "sparse file 'file'"),
        (
            "more names than there can be",
            numbered.collect::<Vec<_>>().concat(),
            "more files than any image",
        ),
    ];
    let stack = Stack::start().await;
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar");
    for (description, bytes, words) in cases {
        eprintln!("{description}");
        let length = bytes.len() as u64;
        let mut file = File::create(&archive).unwrap();
        file.write_all(&bytes).unwrap();
        file.set_len(length + 2 * HUGE).unwrap(); // no bytes of the disk
        refused(&stack, &archive, &[], &[words]).await;
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn compressed_archives_are_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar");
    Layout::of_layers(&[LAYER]).archive(&archive);
    let bytes = fs::read(&archive).unwrap();
    let (half, other_half) = bytes.split_at(bytes.len() / 2);
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    // A frame that is to be skipped, of three bytes.
    let skipped = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let good = [
        ("gzip", gzip(&bytes)),
        ("gzip in two members", [gzip(half), gzip(other_half)].concat()),
        ("zstd", zstd(&bytes)),
        ("zstd in two frames", [zstd(half), zstd(other_half)].concat()),
        ("zstd after a frame to be skipped", [&skipped[..], &zstd(&bytes)].concat()),
    ];
    for (description, bytes) in good {
        let stack = Stack::start().await;
        fs::write(&archive, bytes).unwrap();
        let publish = ["publish", "--create-repository", archive.to_str().unwrap(), "app:1"];
        let output = stack.layergate(&publish).await;
        assert!(output.status.success(), "{description}: {}", stderr(&output));
        assert_eq!(stack.ask("app", &sha256(LAYER)).await.status, 200, "{description}");
    }
    let stack = Stack::start().await;
    let cut = |mut bytes: Vec<u8>| {
        bytes.truncate(bytes.len() - 9);
        bytes
    };
    let bad = [
        ("half of gzip", cut(gzip(&bytes)), "not an intact gzip file"),
        ("half of zstd", cut(zstd(&bytes)), "not an intact zstd file"),
        ("gzip in gzip", gzip(&gzip(&bytes)), "not an intact tar archive"),
        ("half of an archive in gzip", gzip(&bytes[..1000]), "image.tar"),
    ];
    for (description, bytes, words) in bad {
        eprintln!("{description}");
        fs::write(&archive, bytes).unwrap();
        refused(&stack, &archive, &[], &[words]).await;
    }
}

#[tokio::test]
async fn archives_with_other_oddities_are_read() {
    let cases = [
        ("an empty folder", "blobs/x/", EntryType::Directory, None),
        ("a link within", "blobs/link", EntryType::Symlink, Some("../index.json")),
        ("a link to nowhere", "blobs/link", EntryType::Symlink, Some("nowhere")),
        ("a link to itself", "loop", EntryType::Symlink, Some("loop")),
        ("a pipe", "pipe", EntryType::Fifo, None),
    ];
    let stack = Stack::start().await;
    let folder = tempfile::tempdir().unwrap();
    for (description, name, kind, link) in cases {
        let archive = archive_with(&folder, name, kind, link);
        let output = stack
            .layergate(&["publish", "--create-repository", archive.to_str().unwrap(), "app:1"])
            .await;
        assert!(output.status.success(), "{description}: {}", stderr(&output));
    }
    assert_eq!(stack.ask("app", &sha256(LAYER)).await.status, 200);
}

#[tokio::test]
async fn a_truncated_archive_is_refused_wherever_it_ends() {
    let stack = Stack::start().await;
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.tar");
    Layout::of_layers(&[LAYER]).archive(&whole);
    let bytes = fs::read(&whole).unwrap();
    let cut = folder.path().join("cut.tar");
    // What follows the last file's bytes is padding: without it the image is still all there.
    let mut archive = tar::Archive::new(&bytes[..]);
    let end_of = |entry: tar::Entry<'_, _>| entry.raw_file_position() + entry.size();
    let end = archive.entries().unwrap().map(|entry| end_of(entry.unwrap())).max().unwrap();
    for length in (0..usize::try_from(end).unwrap()).step_by(500) {
        fs::write(&cut, &bytes[..length]).unwrap();
        let output = stack
            .layergate(&["publish", "--create-repository", cut.to_str().unwrap(), "app:1"])
            .await;
        assert_refused(&output, 3, &["cut.tar"]);
        assert_eq!(stack.ask("app", &sha256(LAYER)).await.status, 400);
    }
    let output = stack
        .layergate(&["publish", "--create-repository", whole.to_str().unwrap(), "app:1"])
        .await;
    assert!(output.status.success());
}
