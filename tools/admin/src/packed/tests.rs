use super::*;

fn lines_of(path: &Path) -> io::Result<Vec<String>> {
    let mut lines = Source::open(path)?.lines();
    let mut found = Vec::new();
    while let Some((number, line)) = lines.next()? {
        assert_eq!(number, found.len() as u64 + 1);
        found.push(String::from_utf8(line.to_vec()).unwrap());
    }
    Ok(found)
}

/// Larger than two frames of zstd, and not all alike.
fn many() -> Vec<String> {
    (0..200_000_u64)
        .map(|number| format!("line {number} {:x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect()
}

#[test]
fn what_was_written_is_read_whatever_the_packing() {
    let directory = tempfile::tempdir().unwrap();
    let all = many();
    let mut sizes = Vec::new();
    for name in ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"] {
        let path = directory.path().join(name);
        let mut target = Target::create(&path).unwrap();
        all.iter().for_each(|line| writeln!(target, "{line}").unwrap());
        assert!(!path.exists(), "{name} is not there before it is whole");
        target.finish().unwrap();
        assert!(!partial(&path).exists(), "{name}");
        assert_eq!(lines_of(&path).unwrap(), all, "{name}");
        sizes.push(fs::metadata(&path).unwrap().len());
    }
    assert!(
        sizes[1] < sizes[0] && sizes[2] < sizes[0],
        "packed is smaller: {sizes:?}"
    );
}

#[test]
fn an_unfinished_file_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a", "a.gz", "a.zst"] {
        let mut target = Target::create(&directory.path().join(name)).unwrap();
        target.write_all(b"something").unwrap();
        drop(target);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// Made by the zstd program: `printf 'one\ntwo\n' | zstd`, twice, with a skippable frame between.
#[test]
fn files_of_the_zstd_program_are_read_frame_after_frame() {
    const FRAME: [u8; 21] = [
        0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58, 0x41, 0x00, 0x00, 0x6f, 0x6e, 0x65, 0x0a, 0x74, 0x77, 0x6f, 0x0a, 0xe6,
        0xa6, 0x0e, 0x40,
    ];
    const SKIPPED: [u8; 11] = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.zst");
    fs::write(&path, [&FRAME[..], &SKIPPED, &FRAME].concat()).unwrap();
    assert_eq!(lines_of(&path).unwrap(), ["one", "two", "one", "two"]);
}

#[test]
fn cut_and_changed_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a.gz", "a.zst"] {
        let path = directory.path().join(name);
        let mut target = Target::create(&path).unwrap();
        many()
            .iter()
            .take(5_000)
            .for_each(|line| writeln!(target, "{line}").unwrap());
        target.finish().unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in [whole.len() - 1, whole.len() / 2, 5] {
            fs::write(&path, &whole[..cut]).unwrap();
            lines_of(&path).expect_err(&format!("{name} cut at {cut} of {}", whole.len()));
        }
        let mut changed = whole.clone();
        let last = changed.len() - 1;
        changed[last] ^= 1;
        fs::write(&path, &changed).unwrap();
        lines_of(&path).expect_err(name);
    }
}

#[test]
fn a_line_without_an_end_and_one_of_windows_are_lines() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    fs::write(&path, "one\r\n\ntwo").unwrap();
    assert_eq!(lines_of(&path).unwrap(), ["one", "", "two"]);
    fs::write(&path, vec![b'x'; LINE_BYTES_MAX + 1]).unwrap();
    assert_eq!(lines_of(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
}
