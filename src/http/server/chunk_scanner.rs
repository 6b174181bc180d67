//! [`ChunkScanner`]: where a chunked body ends (RFC 9112, 7.1).

/// Follows a chunked body in its plainest form: sizes without extensions, lines that end with CR and LF, no
/// trailers. hyper reads every such body as this does; it also accepts other forms.
#[derive(Debug, Default)]
pub(super) struct ChunkScanner {
    at: ChunkState,
    /// The size of the chunk as far as it is read, or what remains of the chunk.
    size: u64,
    /// The number of digits of the size.
    digits: u8,
}

#[derive(Clone, Copy, Debug, Default)]
enum ChunkState {
    #[default]
    Size,
    SizeEnd,
    Content,
    ContentCr,
    ContentEnd,
    LastCr,
    LastEnd,
}

impl ChunkScanner {
    /// Scans the next bytes. Returns how many, and `Some(true)` at the end of the body, `Some(false)` if the
    /// body is not in its plainest form, so that its end is not known.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> (usize, Option<bool>) {
        let mut scanned = 0;
        while let Some(&byte) = bytes.get(scanned) {
            let next = match (self.at, byte) {
                (ChunkState::Content, _) => {
                    let left = bytes.len() - scanned;
                    let size = usize::try_from(self.size).unwrap_or(usize::MAX).min(left);
                    self.size -= size as u64;
                    scanned += size;
                    if self.size == 0 {
                        self.at = ChunkState::ContentCr;
                    }
                    continue;
                }
                (ChunkState::Size, b'\r') if self.digits > 0 => ChunkState::SizeEnd,
                // Sixteen digits always fit into 64 bits.
                (ChunkState::Size, _) if byte.is_ascii_hexdigit() && self.digits < 16 => {
                    let digit = char::from(byte).to_digit(16).unwrap_or_default();
                    self.size = self.size << 4 | u64::from(digit);
                    self.digits += 1;
                    ChunkState::Size
                }
                (ChunkState::SizeEnd, b'\n') if self.size == 0 => ChunkState::LastCr,
                (ChunkState::SizeEnd, b'\n') => ChunkState::Content,
                (ChunkState::ContentCr, b'\r') => ChunkState::ContentEnd,
                (ChunkState::ContentEnd, b'\n') => {
                    self.digits = 0;
                    ChunkState::Size
                }
                (ChunkState::LastCr, b'\r') => ChunkState::LastEnd,
                (ChunkState::LastEnd, b'\n') => return (scanned + 1, Some(true)),
                // An extension, a bare line feed or a trailer: other readers may see another end than hyper does.
                _ => return (scanned, Some(false)),
            };
            self.at = next;
            scanned += 1;
        }
        (scanned, None)
    }
}
