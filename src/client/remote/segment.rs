//! [`MessageSegment`]: the parts of a message.

/// A part of a message, as far as the API can show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MessageSegment {
    /// Text.
    Text(String),
    /// A classic face, by number; none if the number is not one.
    Face(Option<u32>),
    /// An image, or a face that is an image.
    Image,
    /// A mention: the uid, and the name if the implementation gives it.
    At(u64, Option<String>),
    /// A mention of everyone.
    AtAll,
    /// A quoted message.
    Reply,
    /// Any other part.
    Other,
}
