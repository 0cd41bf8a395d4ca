"""The two-way Telegram bot: what people ask, and what they do about alerts."""
