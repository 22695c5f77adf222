-- Whether Andon's clock was unset when the message came: a retry then trusts the device's time again. NULL counts as false.
ALTER TABLE rejected_message ADD COLUMN clock_unset boolean;
