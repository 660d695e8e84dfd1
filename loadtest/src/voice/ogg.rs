//! Reads the packets of an Ogg file (RFC 3533). For the recording that is compiled in, whose form tests have seen; a file
//! that is cut off gives what is whole.

/// The packets of the first stream.
pub(super) fn packets(mut file: &[u8]) -> Vec<Vec<u8>> {
    let (mut packets, mut packet) = (Vec::new(), Vec::new());
    while let Some((segments, mut body, rest)) = page(file) {
        for &len in segments {
            let (segment, left) = body.split_at(usize::from(len));
            packet.extend_from_slice(segment);
            body = left;
            // A segment of 255 bytes is continued by the next one, over pages too.
            if len < 255 {
                packets.push(std::mem::take(&mut packet));
            }
        }
        file = rest;
    }
    packets
}

/// The lengths of a page's segments, their bytes, and what follows the page.
fn page(file: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (header, rest) = file.split_at_checked(27)?;
    let (segments, rest) = rest.split_at_checked(usize::from(header[26]))?;
    let (body, rest) = rest.split_at_checked(segments.iter().map(|len| usize::from(*len)).sum())?;
    header.starts_with(b"OggS").then_some((segments, body, rest))
}

#[cfg(test)]
mod tests {
    #[test]
    fn headers_come_first_and_a_cut_file_gives_what_is_whole() {
        let file = include_bytes!("speech.opus");
        let packets = super::packets(file);
        assert!(packets[0].starts_with(b"OpusHead") && packets[1].starts_with(b"OpusTags"));
        assert!(packets.len() > 100);
        assert!(super::packets(&file[..file.len() / 2]).len() < packets.len());
        assert!(super::packets(b"RIFF").is_empty());
    }
}
