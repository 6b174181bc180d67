//! A login code as text, for a terminal. The image is read and drawn anew, since its own modules may be of any size.

use std::io::Cursor;

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

/// The most pixels of an image that is read. A small file may hold a huge one.
const MOST_PIXELS: usize = 2048 * 2048;

/// Draws the code of a PNG image, light on dark as terminals are, with half a character for each module. None for another image.
/// Takes time, up to some tens of milliseconds.
pub(super) fn draw(image: &[u8]) -> Option<String> {
    let (width, height, grey) = pixels(image)?;
    let mut found = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| grey[y * width + x]);
    let (_, content) = found.detect_grids().first()?.decode().ok()?;
    let code = QrCode::new(content).ok()?;
    // Light modules are what is drawn.
    let drawn = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    Some(drawn + "\n")
}

/// Width, height and brightness of each pixel.
fn pixels(image: &[u8]) -> Option<(usize, usize, Vec<u8>)> {
    let limits = png::Limits { bytes: MOST_PIXELS * 4 };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(image), limits);
    // To 8 bits a channel, and no palette.
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().ok()?;
    let size = reader.output_buffer_size().filter(|size| *size <= MOST_PIXELS * 4)?;
    let mut content = vec![0; size];
    let info = reader.next_frame(&mut content).ok()?;
    let (width, height) = (usize::try_from(info.width).ok()?, usize::try_from(info.height).ok()?);
    let samples = info.color_type.samples();
    // Of colours, red tells dark from light as well; what is transparent counts as light.
    let has_alpha = matches!(info.color_type, png::ColorType::Rgba | png::ColorType::GrayscaleAlpha);
    let grey: Vec<u8> = content[..info.buffer_size()]
        .chunks_exact(samples)
        .map(|pixel| if has_alpha && pixel[samples - 1] < 128 { 255 } else { pixel[0] })
        .collect();
    (grey.len() == width * height && !grey.is_empty()).then_some((width, height, grey))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, height: u32, color: png::ColorType, content: &[u8]) -> Vec<u8> {
        let mut image = Vec::new();
        let mut encoder = png::Encoder::new(&mut image, width, height);
        encoder.set_color(color);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.write_header().unwrap().write_image_data(content).unwrap();
        image
    }

    /// The content of the code that stands in a text.
    fn read(text: &str) -> String {
        let rows: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
        let scale = 4;
        let (width, height) = (rows[0].len() * scale, rows.len() * 2 * scale);
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
            let (half, column) = (y / scale, x / scale);
            let is_light = match rows[half / 2][column] {
                '█' => true,
                '▀' => half % 2 == 0,
                '▄' => half % 2 == 1,
                _ => false,
            };
            if is_light { 255 } else { 0 }
        });
        image.detect_grids()[0].decode().unwrap().1
    }

    #[test]
    fn drawn_code_is_that_of_the_image() {
        let content = "https://txz.qq.com/p?k=abc&f=715030901";
        let code = QrCode::new(content).unwrap();
        let (scale, quiet) = (7, 4);
        let width = (code.width() + 2 * quiet) * scale;
        let is_dark = |x: usize, y: usize| {
            let at = |pixel: usize| (pixel / scale).checked_sub(quiet).filter(|at| *at < code.width());
            at(x).zip(at(y)).is_some_and(|(x, y)| code[(x, y)] == qrcode::Color::Dark)
        };
        let pixels = |channels: &dyn Fn(bool) -> Vec<u8>| -> Vec<u8> {
            (0..width * width).flat_map(|at| channels(is_dark(at % width, at / width))).collect()
        };
        let side = u32::try_from(width).unwrap();
        for (color, content_of) in [
            (png::ColorType::Grayscale, pixels(&|dark| vec![if dark { 0 } else { 255 }])),
            (png::ColorType::Rgb, pixels(&|dark| if dark { vec![0, 0, 120] } else { vec![255; 3] })),
            (png::ColorType::Rgba, pixels(&|dark| if dark { vec![0, 0, 0, 255] } else { vec![0; 4] })),
        ] {
            let drawn = draw(&png(side, side, color, &content_of)).unwrap();
            assert_eq!(read(&drawn), content, "{color:?}\n{drawn}");
        }
    }

    #[test]
    fn other_images_are_refused() {
        assert_eq!(draw(b"\xff\xd8\xff\xe0 a JPEG"), None);
        assert_eq!(draw(b"\x89PNG\r\n\x1a\n"), None);
        assert_eq!(draw(&png(64, 64, png::ColorType::Grayscale, &[255; 64 * 64])), None, "without a code");
        // Ten thousand pixels by ten thousand, in a small file.
        let huge = png(10_000, 10_000, png::ColorType::Grayscale, &vec![255; 100_000_000]);
        assert!(huge.len() < 1024 * 1024);
        assert_eq!(draw(&huge), None);
    }
}
