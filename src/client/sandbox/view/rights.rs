//! Who may change a group, as QQ has it. The same holds for our own changes and for those of others. Pure.

use super::View;
use super::changes::GroupChange;
use crate::client::backend::BackendError;
use crate::client::backend::objects::GroupRole;

/// The longest name, card or title, in characters, and the longest announcement.
pub(super) const MAX_NAME: usize = 60;
const MAX_ANNOUNCEMENT: usize = 3000;

/// Whether a text is not too long.
pub(super) fn short(text: &str, most: usize) -> Result<(), BackendError> {
    if text.chars().count() <= most && !text.contains('\0') {
        return Ok(());
    }
    Err(BackendError::Refused(format!("the text is longer than {most} characters")))
}

impl View {
    /// Who may do this, as QQ has it.
    pub(super) fn check_rights(
        &self,
        by: &str,
        group: &str,
        change: &GroupChange,
    ) -> Result<(), BackendError> {
        let found = self.world.groups.iter().find(|known| known.uid == group).ok_or(BackendError::Gone)?;
        let own = || self.role(found, by).ok_or(BackendError::NotAllowed);
        let of = |member: &str| self.role(found, member).ok_or(BackendError::Gone);
        let is_allowed = match change {
            GroupChange::Mute { member, .. } | GroupChange::Kick { member } => {
                let by = own()?;
                by > of(member)?
            }
            GroupChange::Card { member, card } => {
                short(card, MAX_NAME)?;
                let (own, other) = (own()?, of(member)?);
                by == member || own > other
            }
            GroupChange::Admin { member, .. } => {
                own()? == GroupRole::Owner && of(member)? != GroupRole::Owner
            }
            GroupChange::Title { member, title } => {
                short(title, MAX_NAME)?;
                of(member)?;
                own()? == GroupRole::Owner
            }
            GroupChange::Name { name } => {
                short(name, MAX_NAME)?;
                own()? >= GroupRole::Admin && !name.is_empty()
            }
            GroupChange::MuteAll { .. } => own()? >= GroupRole::Admin,
            GroupChange::Essence { message, .. } => {
                let known = self.messages.find(message).ok_or(BackendError::Gone)?;
                if known.place.group() != Some(group) {
                    return Err(BackendError::Gone);
                }
                own()? >= GroupRole::Admin
            }
            GroupChange::Announce { text, id } => {
                short(text, MAX_ANNOUNCEMENT)?;
                short(id, MAX_NAME)?;
                own()? >= GroupRole::Admin
            }
            GroupChange::Upload { file } => {
                short(&file.name, 4 * MAX_NAME)?;
                short(&file.id, 4 * MAX_NAME)?;
                short(&file.url, 1000)?;
                own()?;
                true
            }
            GroupChange::Leave if own()? == GroupRole::Owner => {
                return Err(BackendError::Refused("the owner of a group can only dismiss it".into()));
            }
            GroupChange::Leave => true,
            GroupChange::Dismiss => own()? == GroupRole::Owner,
            GroupChange::Join { member, name, invited_by } => {
                short(name, MAX_NAME)?;
                if self.changed.get(group).is_some_and(|state| state.is_dismissed) {
                    return Err(BackendError::Gone);
                }
                match invited_by {
                    Some(inviter) => by == member && of(inviter).is_ok(),
                    None => own()? >= GroupRole::Admin,
                }
            }
        };
        if is_allowed { Ok(()) } else { Err(BackendError::NotAllowed) }
    }
}
