-- The versions before make what they need themselves.
SELECT 1;
