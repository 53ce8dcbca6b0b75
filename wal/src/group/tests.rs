use proptest::prelude::*;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn framed(records: &[Record<'_>]) -> Vec<u8> {
    let mut buffer = vec![0xff; 3];
    let position = Position {
        salt: 0x5a17_5a17,
        previous: 0x0102_0304,
        first: Lsn(10),
        synced_through: Lsn(8),
    };
    let crc = encode(&mut buffer, position, records);
    assert_eq!(crc, u32_at(&buffer, 4));
    buffer
}

#[test]
fn golden_bytes_of_a_group() {
    let bytes = framed(&[Record { header: 1, body: b"ab" }, Record { header: 7, body: b"" }]);
    let expected = concat!(
        "47525031",
        "21d1c254",
        "40000000",
        "fc63d606",
        "0a00000000000000",
        "0800000000000000",
        "02000000",
        "04030201",
        "00",
        "00000000000000", // flags and reserved bytes
        "02000000",
        "01",
        "6162",
        "00000000",
        "07",       // two records
        "00000000", // padding
    );
    assert_eq!(hex(&bytes), expected);
}

#[test]
fn golden_bytes_of_a_group_without_records() {
    let bytes = framed(&[]);
    let expected = concat!(
        "47525031",
        "7ba31c4c",
        "30000000",
        "00000000", // the CRC of no bytes
        "0a00000000000000",
        "0800000000000000",
        "00000000",
        "04030201",
        "00",
        "00000000000000",
    );
    assert_eq!(hex(&bytes), expected);
    let head = Header::decode(&bytes, 0x5a17_5a17).unwrap();
    assert_eq!(
        (head.count, head.first, head.last(), head.body_crc),
        (0, Lsn(10), Lsn(9), 0)
    );
}

#[test]
fn a_group_belongs_to_its_segment_only() {
    let bytes = framed(&[Record { header: 1, body: b"ab" }]);
    assert!(Header::decode(&bytes, 0x5a17_5a17).is_some());
    assert_eq!(Header::decode(&bytes, 0x5a17_5a18), None);
}

/// With and without records: a head cut anywhere is none, and a body of another length is not its own.
#[test]
fn cut_or_longer_bytes_are_no_group() {
    for records in [&[][..], &[Record { header: 1, body: b"ab" }]] {
        let bytes = framed(records);
        for length in 0..HEADER_BYTES {
            assert_eq!(Header::decode(&bytes[..length], 0x5a17_5a17), None, "{length} bytes");
        }
        let head = Header::decode(&bytes, 0x5a17_5a17).unwrap();
        assert!(head.owns(&bytes[HEADER_BYTES..]));
        for length in HEADER_BYTES..bytes.len() {
            assert!(!head.owns(&bytes[HEADER_BYTES..length]), "{length} bytes");
        }
        let longer = [&bytes[HEADER_BYTES..], &[0; 8]].concat();
        assert!(!head.owns(&longer));
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = framed(&[Record {
        header: 1,
        body: b"some body of a record",
    }]);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let whole = Header::decode(&flipped, 0x5a17_5a17).is_some_and(|head| head.owns(&flipped[HEADER_BYTES..]));
        assert!(!whole, "bit {bit}");
    }
}

proptest! {
    #[test]
    fn records_come_back(records in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..300)), 0..20)) {
        let offered: Vec<Record<'_>> = records.iter().map(|(header, body)| Record { header: *header, body }).collect();
        let bytes = framed(&offered);
        prop_assert_eq!(bytes.len(), framed_bytes(&offered));
        let head = Header::decode(&bytes, 0x5a17_5a17).unwrap();
        prop_assert_eq!(head.length as usize, bytes.len());
        prop_assert_eq!(head.count as usize, records.len());
        let mut rest = &bytes[HEADER_BYTES..];
        prop_assert!(head.owns(rest));
        prop_assert!(is_well_formed(rest, head.count));
        prop_assert!(!is_well_formed(rest, head.count + 2));
        for (header, body) in &records {
            let (record, after) = split_record(rest).unwrap();
            prop_assert_eq!((record.header, record.body), (*header, body.as_slice()));
            rest = after;
        }
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), count in any::<u32>()) {
        let _ = Header::decode(&bytes, 1);
        let _ = split_record(&bytes);
        let _ = is_well_formed(&bytes, count);
    }
}
