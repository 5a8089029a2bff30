"""Texts and chats as the tokens that a target reads."""
