//! [`QrImage`]: the login code as an image that a phone can scan.

use std::io;
use std::path::{Path, PathBuf};

use qrcode::{Color, QrCode};

use crate::client::READABLE;
use crate::files::{FileError, replace};

/// Pixels along one side of one module.
const MODULE: usize = 8;

/// The white margin that the standard asks for, in modules.
const QUIET_ZONE: usize = 4;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QrError {
    /// The content is too long for any QR code.
    #[error("the login code cannot be put into a QR code")]
    Encode(#[source] qrcode::types::QrError),
    /// The image cannot be encoded.
    #[error("the image of the login code cannot be made")]
    Png(#[source] png::EncodingError),
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] FileError),
    /// The file cannot be removed.
    #[error("the image of the login code, {0:?}, cannot be removed")]
    Remove(PathBuf, #[source] io::Error),
}

/// The image of the login code, while there is one.
pub(crate) struct QrImage {
    path: PathBuf,
}

impl QrImage {
    /// The image at `path`.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where the image is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes an image.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn show(&self, image: &[u8]) -> Result<(), QrError> {
        Ok(replace(&self.path, image, READABLE)?)
    }

    /// Removes the image, if there is one.
    ///
    /// # Errors
    /// It is there and cannot be removed.
    pub(crate) fn clear(&self) -> Result<(), QrError> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(QrError::Remove(self.path.clone(), error))
            }
            _ => Ok(()),
        }
    }
}

/// `content` as a QR code: PNG, 8 bits of grey.
///
/// # Errors
/// The content is too long.
pub(crate) fn png(content: &str) -> Result<Vec<u8>, QrError> {
    let code = QrCode::new(content).map_err(QrError::Encode)?;
    let (width, modules) = (code.width(), code.to_colors());
    let side = (width + 2 * QUIET_ZONE) * MODULE;
    let mut pixels = vec![u8::MAX; side * side];
    for (row, line) in pixels.chunks_exact_mut(side).enumerate() {
        for (column, pixel) in line.iter_mut().enumerate() {
            // The subtraction fails in the left and upper quiet zone, `get` fails beyond the code.
            let module = |at: usize| (at / MODULE).checked_sub(QUIET_ZONE).filter(|module| *module < width);
            let (Some(x), Some(y)) = (module(column), module(row)) else { continue };
            if modules.get(y * width + x) == Some(&Color::Dark) {
                *pixel = 0;
            }
        }
    }
    let mut image = Vec::new();
    // The side is at most (177 + 8) * 8 pixels.
    let side = u32::try_from(side).unwrap_or(u32::MAX);
    let mut encoder = png::Encoder::new(&mut image, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    // Each client encodes one at its start: better compression would cost more memory than everything else.
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().map_err(QrError::Png)?;
    writer.write_image_data(&pixels).map_err(QrError::Png)?;
    writer.finish().map_err(QrError::Png)?;
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the code back with a decoder that has nothing in common with the encoder.
    fn scan(image: &[u8]) -> String {
        let mut reader = png::Decoder::new(io::Cursor::new(image)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Grayscale, png::BitDepth::Eight));
        let width = info.width as usize;
        let grey = |x: usize, y: usize| pixels[y * width + x];
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, info.height as usize, grey);
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1);
        grids[0].decode().unwrap().1
    }

    #[test]
    fn qr_image_can_be_scanned() {
        let folder = tempfile::tempdir().unwrap();
        let image = QrImage::new(folder.path().join("code.jpg"));
        for content in ["x", "http://127.0.0.1:5000/sandbox/login?account=%E5%B0%8F", &"long".repeat(100)] {
            let shown = png(content).unwrap();
            image.show(&shown).unwrap();
            assert_eq!(scan(&shown), content);
            assert_eq!(std::fs::read(image.path()).unwrap(), shown);
        }
        assert!(matches!(png(&"x".repeat(5000)), Err(QrError::Encode(_))));
        image.clear().unwrap();
        assert!(!image.path().exists());
        image.clear().unwrap();
    }
}
