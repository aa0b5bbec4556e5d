//! The few letters of pictures' legends, five by seven pixels each: no font is needed for them.

use image::{Rgb, RgbImage};

/// Rows of a letter.
pub const HEIGHT: u32 = 7;
/// Columns of a letter and of the gap behind it.
const STEP: u32 = 6;

/// Rows from the top; of a row the lowest five bits, the leftmost pixel first.
const LETTERS: [(char, [u8; 7]); 18] = [
    ('0', [0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110]),
    ('1', [0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110]),
    ('2', [0b01110, 0b10001, 0b00001, 0b00010, 0b00100, 0b01000, 0b11111]),
    ('3', [0b11111, 0b00010, 0b00100, 0b00010, 0b00001, 0b10001, 0b01110]),
    ('4', [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010]),
    ('5', [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110]),
    ('6', [0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110]),
    ('7', [0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000]),
    ('8', [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110]),
    ('9', [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100]),
    ('.', [0, 0, 0, 0, 0, 0b01100, 0b01100]),
    ('-', [0, 0, 0, 0b01110, 0, 0, 0]),
    ('m', [0, 0, 0b11010, 0b10101, 0b10101, 0b10101, 0b10101]),
    ('s', [0, 0, 0b01111, 0b10000, 0b01110, 0b00001, 0b11110]),
    ('u', [0, 0, 0b10001, 0b10001, 0b10001, 0b10011, 0b01101]),
    ('o', [0, 0, 0b01110, 0b10001, 0b10001, 0b10001, 0b01110]),
    ('n', [0, 0, 0b10110, 0b11001, 0b10001, 0b10001, 0b10001]),
    ('f', [0b00110, 0b01001, 0b01000, 0b11100, 0b01000, 0b01000, 0b01000]),
];

/// Pixels that a text is wide whose letters are enlarged by `scale`.
pub fn width(text: &str, scale: u32) -> u32 {
    (text.chars().count() as u32 * STEP).saturating_sub(1) * scale
}

/// Writes a text from (`left`, `top`) on, as far as it lies in the picture; letters that are not known are left blank.
pub fn write(image: &mut RgbImage, text: &str, [left, top]: [u32; 2], scale: u32, colour: Rgb<u8>) {
    for (i, c) in text.chars().enumerate() {
        let rows = LETTERS.iter().find(|l| l.0 == c).map_or([0; 7], |l| l.1);
        let set = |x: u32, y: u32| rows[y as usize] >> (4 - x) & 1 == 1;
        for (x, y) in (0..HEIGHT).flat_map(|y| (0..STEP - 1).map(move |x| (x, y))).filter(|(x, y)| set(*x, *y)) {
            fill(image, [left + (i as u32 * STEP + x) * scale, top + y * scale], [scale; 2], colour);
        }
    }
}

/// Fills a rectangle, as far as it lies in the picture.
pub fn fill(image: &mut RgbImage, [left, top]: [u32; 2], [width, height]: [u32; 2], colour: Rgb<u8>) {
    for (x, y) in (top..top + height).flat_map(|y| (left..left + width).map(move |x| (x, y))) {
        if let Some(pixel) = image.get_pixel_mut_checked(x, y) {
            *pixel = colour;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_drawn() {
        let mut image = RgbImage::new(width("-u1", 2), 2 * HEIGHT);
        write(&mut image, "-u1", [0, 0], 2, Rgb([9; 3]));
        let row = |y: u32| -> String {
            (0..image.width()).step_by(2).map(|x| if image.get_pixel(x, 2 * y)[0] == 9 { '#' } else { ' ' }).collect()
        };
        assert_eq!([0, 3, 6].map(row), ["              #  ", " ###  #   #   #  ", "       ## #  ### "]);
        // What lies outside is left out.
        write(&mut image, "88888?", [20, 9], 3, Rgb([1; 3]));
    }
}
