//! LZ4 frames, as packets of AEDAT 4 and chunks of ROS bags are packed.

use std::io::Read;

/// Appends what a frame holds to `out`, at most `most` bytes; of a damaged one the whole blocks before the damage.
///
/// # Errors
/// A damaged frame, or one that is cut off.
pub(super) fn unpack(packed: &[u8], most: u64, out: &mut Vec<u8>) -> Result<(), String> {
    let mut frame = lz4_flex::frame::FrameDecoder::new(packed);
    frame.by_ref().take(most).read_to_end(out).map_err(|e| format!("LZ4: {e}"))?;
    // The end of the bytes ends a frame for its reader as well as the mark does. These four begin a block if there was no mark, which is
    // an error then, as nothing follows; behind one they are no frame, which is none.
    *frame.get_mut() = &[1, 0, 0, 0];
    match (out.len() as u64) < most && frame.read(&mut [0]).is_err() {
        true => Err("LZ4: the frame ends before its end mark".into()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_end_mark_counts() {
        let content: Vec<u8> = (0..200_000u32).flat_map(|i| (i * i % 251).to_le_bytes()).collect();
        for checksum in [false, true] {
            let info =
                lz4_flex::frame::FrameInfo::new().content_checksum(checksum).block_size(lz4_flex::frame::BlockSize::Max64KB);
            let mut frame = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
            frame.write_all(&content).unwrap();
            let packed = frame.finish().unwrap();
            let read = |n: usize, most: u64| {
                let mut out = Vec::new();
                let end = unpack(&packed[..n], most, &mut out);
                (out, end.is_ok())
            };
            let n = packed.len();
            assert_eq!(read(n, 1 << 30), (content.clone(), true));
            assert_eq!(read(n, 1000), (content[..1000].to_vec(), true));
            for cut in 1..9 {
                let (out, whole) = read(n - cut, 1 << 30);
                assert!(!whole && content.starts_with(&out), "{cut}");
                assert!(out.len() == content.len() || cut > 4, "{cut}");
            }
            // The blocks before the cut.
            let half = read(n / 2, 1 << 30).0.len();
            assert!((content.len() / 4..content.len()).contains(&half), "{half}");
        }
    }
}
