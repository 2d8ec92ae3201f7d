-- The role that loads, and its database: it owns nothing else and may do nothing else.
\getenv password TAXI_PASSWORD
CREATE ROLE taxi LOGIN PASSWORD :'password';
CREATE DATABASE taxi OWNER taxi;
