use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn header() -> Header {
    Header {
        number: 3,
        first: Lsn(0x21),
        previous_last: Lsn(0x20),
        previous_digest: 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100,
        capacity: 64 << 20,
        owner: b"cluster/node".to_vec(),
    }
}

#[test]
fn golden_bytes_of_a_segment_header() {
    let block = header().encode();
    assert_eq!(block.len(), 4096);
    let expected = concat!(
        "434e544d4c4f470a",
        "01000000",
        "e003bc0c",
        "0300000000000000",
        "2100000000000000",
        "2000000000000000",
        "000102030405060708090a0b0c0d0e0f",
        "0000000400000000",
        "0c000000",
        "00000000",
        "636c75737465722f6e6f6465",
    );
    assert_eq!(hex(&block[..84]), expected);
    assert!(block[84..].iter().all(|&byte| byte == 0));
    assert_eq!(Header::decode(&block), Decoded::Header(header(), u32_at(&block, 12)));
}

#[test]
fn golden_bytes_of_a_footer() {
    let footer = Footer {
        number: 3,
        first: Lsn(0x21),
        last: Lsn(0x2f),
        end: 0x1800,
        digest: 0xff,
    };
    let bytes = footer.encode();
    let expected = concat!(
        "434e544d454e440a",
        "0300000000000000",
        "2100000000000000",
        "2f00000000000000",
        "0018000000000000",
        "ff000000000000000000000000000000",
        "b39427da",
        "00000000",
    );
    assert_eq!(hex(&bytes), expected);
    assert_eq!(Footer::decode(&bytes, 3), Some(footer));
    assert_eq!(Footer::decode(&bytes, 4), None);
}

#[test]
fn the_digest_is_xxh3_with_128_bits() {
    // The value published with the algorithm.
    assert_eq!(digest_of(b"").digest128(), 0x99aa_06d3_0147_98d8_6001_c324_468d_497f);
}

#[test]
fn every_flipped_bit_is_noticed() {
    let block = header().encode();
    for bit in 0..block.len() * 8 {
        let mut flipped = block.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Header::decode(&flipped), Decoded::Nothing, "bit {bit} of the header");
    }
    let footer = Footer {
        number: 1,
        first: Lsn(1),
        last: Lsn(2),
        end: 4200,
        digest: 7,
    }
    .encode();
    for bit in 0..60 * 8 {
        let mut flipped = footer;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Footer::decode(&flipped, 1), None, "bit {bit} of the footer");
    }
}

#[test]
fn a_whole_header_of_another_version_is_not_called_damaged() {
    let mut block = header().encode();
    block[8] = 2;
    let crc = header_crc(&block);
    block[12..16].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(Header::decode(&block), Decoded::Version(2));
}

#[test]
fn names_and_numbers() {
    assert_eq!(file_name(17), "00000000000000000017.log");
    assert_eq!(number_of("00000000000000000017.log"), Some(17));
    for other in [
        "17.log",
        "00000000000000000017.tmp",
        "0000000000000000001x.log",
        "99999999999999999999.log",
        "",
    ] {
        assert_eq!(number_of(other), None, "{other}");
    }
}
