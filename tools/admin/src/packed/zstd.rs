//! zstd in pure Rust, frame by frame.
//!
//! `RocksDB` has its own zstd in C; a second way to that would have its features, and so one more compiled `RocksDB` for each
//! selection of crates. Frames of 4 MiB keep memory bounded, and each is unpacked and compared before it is written.

use std::io::{self, BufRead, Read, Write};

use ruzstd::{
    decoding::{
        BlockDecodingStrategy, FrameDecoder,
        errors::{FrameDecoderError, ReadFrameHeaderError},
    },
    encoding::{CompressionLevel, compress_to_vec},
};

/// Bytes of one frame, before they are packed.
const FRAME_BYTES: usize = 4 << 20;

/// Unpacks all frames of a source.
pub(super) struct Decoder<R> {
    source: R,
    frame: FrameDecoder,
    /// Whether a frame is being unpacked.
    within: bool,
}

impl<R: BufRead> Decoder<R> {
    pub(super) fn new(source: R) -> Decoder<R> {
        Decoder {
            source,
            frame: FrameDecoder::new(),
            within: false,
        }
    }

    /// Begins the next frame that has data; whether there is one.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.frame.reset(&mut self.source) {
                Ok(()) => {
                    self.within = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let skipped = io::copy(&mut (&mut self.source).take(u64::from(length)), &mut io::sink())?;
                    if skipped < u64::from(length) {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                    }
                }
                Err(error) => return Err(damaged(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.within || self.next_frame()? {
            while self.frame.can_collect() == 0 && !self.frame.is_finished() {
                let decoded = self
                    .frame
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1));
                decoded.map_err(damaged)?;
            }
            let count = self.frame.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            self.within = false;
            let stated = self.frame.get_checksum_from_data();
            if stated.is_some() && stated != self.frame.get_calculated_checksum() {
                return Err(damaged("its checksum does not fit"));
            }
        }
        Ok(0)
    }
}

fn damaged(error: impl ToString) -> io::Error {
    let what = format!("it is no sound zstd file: {}", error.to_string());
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Packs what is written into frames.
pub(super) struct Encoder<W> {
    target: W,
    frame: Vec<u8>,
}

impl<W: Write> Encoder<W> {
    pub(super) fn new(target: W) -> Encoder<W> {
        Encoder {
            target,
            frame: Vec::new(),
        }
    }

    /// Writes what is left; of nothing at all one empty frame.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.end_frame()?;
        Ok(self.target)
    }

    fn end_frame(&mut self) -> io::Result<()> {
        let mut packed = compress_to_vec(self.frame.as_slice(), CompressionLevel::Fastest);
        let mut unpacked = Vec::with_capacity(self.frame.len());
        let read = Decoder::new(packed.as_slice()).read_to_end(&mut unpacked);
        if read.is_err() || unpacked != self.frame {
            packed = compress_to_vec(self.frame.as_slice(), CompressionLevel::Uncompressed);
        }
        self.frame.clear();
        self.target.write_all(&packed)
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.frame.len() == FRAME_BYTES {
            self.end_frame()?;
        }
        let taken = bytes.len().min(FRAME_BYTES - self.frame.len());
        self.frame.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}
